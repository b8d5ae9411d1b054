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
from unified_diffusion.evaluation.features import spread
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
    x, y = samples.vectors[spread(samples.vectors, 40)], reference.vectors[spread(reference.vectors, 40)]
    np.testing.assert_allclose(rows["recall"].value, precision_recall(x, y).recall.value)
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
    assert itself.value == 0
    assert (itself.num_samples, itself.num_reference) == (101, 101)
    assert (halves.num_samples, halves.num_reference) == (50, 51)
    assert (held_out.num_samples, held_out.num_reference) == (50, 101)
    np.testing.assert_allclose(held_out.value, frechet_distance(test.vectors, train.vectors).value)
    assert halves.value > 0.001


@pytest.mark.parametrize("order", [np.arange(50_000) % 10, np.sort(np.arange(50_000) % 10)], ids=["turns", "sorted"])
@pytest.mark.parametrize("count", [1000, 10_000])
def test_fewer_are_of_all_classes(order, count):
    """Classes that take turns, as the labels of samples do: even strides of five would meet two of the ten."""
    rows = spread(order, count)
    assert np.all(np.diff(rows) > 0)
    shares = np.bincount(order[rows], minlength=10) / count
    # The standard deviation of a class's share is sqrt(0.1 * 0.9 / count) at most.
    np.testing.assert_allclose(shares, 0.1, atol=4 * np.sqrt(0.09 / count))
    np.testing.assert_array_equal(rows, spread(order, count))
    np.testing.assert_array_equal(spread(order, 50_000), np.arange(50_000))


def test_pairs_are_of_all_classes():
    """Of ten classes far from each other a fifth of the samples cover all, not the two that every fifth one is of."""
    generator = np.random.default_rng(2)
    samples, reference = (
        100.0 * np.eye(10)[np.arange(count) % 10] + generator.normal(size=(count, 10)) for count in (500, 100)
    )
    metrics = Measure("pixels", 0, pairwise=100).metrics(Features(samples), Reference("train", reference))
    rows = {metric.name: metric for metric in metrics}
    assert rows["recall"].num_samples == 100
    assert rows["recall"].value > 0.5
    assert rows["coverage"].value > 0.5


def test_another_softwares_number_keeps_the_width():
    found = Measure("inception", 20).metrics(features(0, 60), Reference("digits train", 1 + features(1, 80).vectors))
    row = found[0]
    assert 0 < row.low < row.value < row.high
    moved = row.moved(row.value + 1, num_samples=70)
    np.testing.assert_allclose([moved.low, moved.value, moved.high], np.array([row.low, row.value, row.high]) + 1)
    assert moved.num_samples == 70
    assert row.moved(0.0).low == 0
