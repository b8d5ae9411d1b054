"""All measures together: what each row says, and that counts are honest."""

import numpy as np
import pytest

from unified_diffusion.evaluation import (
    Features,
    Measure,
    Reference,
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from unified_diffusion.evaluation.sample_metrics import METRICS


def features(seed, count, classes=4):
    generator = np.random.default_rng(seed)
    return Features(generator.normal(size=(count, 3)), generator.dirichlet(np.ones(classes), size=count))


def test_a_row_for_each_metric():
    samples, reference = features(0, 60), Reference("digits train", 1.0 + features(1, 80).vectors)
    rows = {metric.name: metric for metric in Measure("classifier", 20).metrics(samples, reference)}
    assert list(rows) == list(METRICS)
    x, y = samples.vectors, reference.vectors
    exact = {"frechet_distance": frechet_distance(x, y), "kernel_distance": kernel_distance(x, y)}
    exact |= precision_recall(x, y)._asdict() | density_coverage(x, y)._asdict()
    for name, metric in rows.items():
        assert metric.low < metric.value < metric.high
        assert metric.features == "classifier"
        assert metric.better == ("lower" if "distance" in name else "higher")
        assert metric.num_samples == 60
        if name == "inception_score":
            assert (metric.reference, metric.num_reference) == ("none", 0)
        else:
            assert (metric.reference, metric.num_reference) == ("digits train", 80)
            np.testing.assert_allclose(metric.value, exact[name].value, rtol=1e-12)


def test_metrics_over_pairs_are_of_fewer():
    samples, reference = features(0, 60), Reference("digits train", features(1, 80).vectors)
    rows = {metric.name: metric for metric in Measure("pixels", 0, pairwise=40).metrics(samples, reference)}
    assert (rows["frechet_distance"].num_samples, rows["frechet_distance"].num_reference) == (60, 80)
    assert (rows["recall"].num_samples, rows["recall"].num_reference) == (40, 40)
    x = samples.vectors[np.arange(40) * 60 // 40]
    np.testing.assert_allclose(rows["recall"].value, precision_recall(x, reference.vectors[::2]).recall.value)
    assert all(metric.low is metric.high is None for metric in rows.values())


@pytest.mark.parametrize(("count", "names"), [(1, 0), (3, 1), (4, 3), (8, 5), (12, 7)], ids=["1", "3", "4", "8", "12"])
def test_of_few_samples_those_that_can_be_measured(count, names):
    reference = Reference("digits train", features(1, 80).vectors)
    found = Measure("classifier", 4).metrics(features(0, count), reference)
    assert len(found) == names
    assert all(np.isfinite([metric.value, metric.low, metric.high]).all() for metric in found)


def test_the_floor():
    train, test = features(0, 101), features(1, 50)
    rows = Measure("pixels", 20).floor(Reference("digits train", train.vectors), test)
    assert [(what, metric.name.split("_")[0]) for what, metric in rows] == [
        ("train with itself", "frechet"),
        ("two halves of train", "frechet"),
        ("two halves of train", "kernel"),
        ("test against train", "frechet"),
        ("test against train", "kernel"),
    ]
    itself, halves, _, held_out, _ = (metric for _, metric in rows)
    assert abs(itself.value) < 1e-12
    assert (itself.num_samples, itself.num_reference) == (101, 101)
    assert (halves.num_samples, halves.num_reference) == (50, 51)
    assert (held_out.num_samples, held_out.num_reference) == (50, 101)
    np.testing.assert_allclose(held_out.value, frechet_distance(test.vectors, train.vectors).value)
    assert halves.value > 0.001


def test_another_softwares_number_keeps_the_width():
    (row, *_) = Measure("inception", 20).metrics(features(0, 60), Reference("digits train", features(1, 80).vectors))
    moved = row.moved(row.value + 1, num_samples=70)
    np.testing.assert_allclose([moved.high - moved.value, moved.num_samples], [row.high - row.value, 70])
    assert moved.low == pytest.approx(max(0, row.low + 1)) or row.low == 0
    assert row.moved(0.0).low == 0
