"""Measures of a run's samples, for eval.json, and the picture of their nearest training images."""

import dataclasses

import numpy as np

from unified_diffusion.codecs import codec_for
from unified_diffusion.data import Dataset
from unified_diffusion.evaluation import (
    Measure,
    Reference,
    Unavailable,
    feature_extractors,
    interval,
    random_halves,
    training_neighbours,
)
from unified_diffusion.runs.folder import read_json
from unified_diffusion.visualization import neighbours_picture


def measure_samples(settings, train, test, workdir, data_name, codec=None):
    """The measures of samples.npz: (their part of eval.json, their pictures by name).

    The part holds

    - "samples": "num_samples", and "num_evaluations", "sampler", "perturbation" and "under" as in samples.json;
    - "metrics": the metrics of each extractor, as `evaluation.Metric` has them;
    - "features": the "name", "dimension", "accuracy" on the test data (or null), "fingerprint" and "note" of each
      extractor;
    - "floor": the distances of the data from themselves, as metrics with "what" was compared;
    - "neighbours": as `_neighbours` gives them;
    - "notes": a line for each measure that could not be taken.

    `codec` is the run's codec; None takes the built-in one for the shape of the examples.
    """
    codec = codec or codec_for(train.shape)
    how = read_json(workdir, "samples.json")
    with np.load(workdir / "samples.npz") as file:
        samples = Dataset(file["arr_0"])
    report = {
        "samples": {
            "num_samples": len(samples),
            **{name: how.get(name) for name in ("num_evaluations", "sampler", "perturbation", "under")},
            **{name: how[name] for name in ("measured_evaluations",) if name in how},
        },
        "metrics": [],
        "features": [],
        "floor": [],
        "neighbours": None,
    }
    if not np.all(np.isfinite(samples.examples)):
        return report | {"notes": ["the samples are not all finite numbers: none of them were measured"]}, {}
    extractors, report["notes"] = feature_extractors(settings.features, train)
    for extractor in extractors:
        try:
            for name, rows in _measure(extractor, settings, samples, train, test, data_name).items():
                report[name] += rows
        except Unavailable as reason:
            report["notes"].append(str(reason))
    pictures = {}
    if settings.neighbours:
        report["neighbours"], pictures = _neighbours(settings, samples, train, test, codec)
    return report, pictures


def _measure(extractor, settings, samples, train, test, data_name):
    """One extractor's rows of "features", "metrics" and "floor"."""
    measure = Measure(extractor.name, settings.bootstrap, settings.pairwise, settings.seed)
    limit = settings.num_reference or None
    found = extractor.extract(samples)
    features = {"train": extractor.extract(train, limit), "test": extractor.extract(test, limit)}
    references = {split: Reference(f"{data_name} {split}", part.vectors) for split, part in features.items()}
    metrics = measure.metrics(found, references[settings.reference])
    numbers = extractor.own_numbers(samples, {"train": train, "test": test}[settings.reference], limit)
    counts = {"num_samples": len(samples), "num_reference": len(references[settings.reference].vectors)}
    metrics = [metric.moved(numbers[metric.name], **counts) if metric.name in numbers else metric for metric in metrics]
    about = {
        "name": extractor.name,
        "dimension": found.vectors.shape[1],
        "accuracy": extractor.accuracy(features["test"]),
        "fingerprint": extractor.fingerprint,
        "note": extractor.note,
    }
    floor = measure.floor(references["train"], features["test"])
    return {
        "features": [about],
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
        "floor": [{"what": what, **dataclasses.asdict(metric)} for what, metric in floor],
    }


def _neighbours(settings, samples, train, test, codec, rows=8):
    """The nearest training examples: (their part of eval.json, the picture).

    "distance_median" is over "num_samples" samples, and "distance_of_test_median" over "num_test" test examples;
    "share_nearer" is the share of samples that are nearer to training data than a test example is, with its 95 %
    interval "share_nearer_low", "share_nearer_high" (nulls without one); "closest" lists the samples
    that are nearest to one: "sample", "train" (their numbers) and "distance". Points have no picture.
    """
    found = training_neighbours(samples, train, test, settings.neighbours, codec=codec)
    halves = random_halves(len(found.rows), settings.bootstrap if len(found.rows) > 1 else 0, settings.seed)
    share = found.share_nearer(halves)
    low, high = interval(share, 0.0, 1.0)
    closest = np.argsort(found.distances[:, 0], kind="stable")[:rows]
    report = {
        "picture": "neighbours.png" if codec.are_images else None,
        "unit": codec.distance_unit,
        "distance_median": float(np.median(found.distances[:, 0])),
        "distance_of_test_median": float(np.median(found.test)),
        "share_nearer": share.value,
        "share_nearer_low": low,
        "share_nearer_high": high,
        "num_samples": len(found.rows),
        "num_test": len(found.test),
        "num_train": len(train),
        "closest": [
            {"sample": int(found.rows[i]), "train": int(found.indices[i, 0]), "distance": float(found.distances[i, 0])}
            for i in closest
        ],
    }
    if not codec.are_images:
        return report, {}
    title = "median distance to the nearest: samples {distance_median:.1f}, test images {distance_of_test_median:.1f}"
    # On the left the samples nearest to a training image, on the right the first ones.
    sides = [
        neighbours_picture(
            samples.gather(found.rows[chosen])["x0"],
            train.gather(found.indices[chosen].ravel())["x0"].reshape(*found.indices[chosen].shape, *train.shape),
            found.distances[chosen],
            text,
        )
        for chosen, text in (
            (closest, "samples nearest to training images"),
            (np.arange(len(closest)), title.format(**report)),
        )
    ]
    return report, {"neighbours.png": np.concatenate(sides, axis=1)}


def table(report):
    """The metrics as lines of text."""
    samples = report["samples"]
    evaluations = f"{samples['num_evaluations']:,} network evaluations each"
    lines = [f"{samples['num_samples']:,} samples by {samples['sampler']}, {evaluations}"]
    for about in report["features"]:
        accuracy = "" if about["accuracy"] is None else f", {100 * about['accuracy']:.1f} % right on the test data"
        lines.append(f"  {about['name']}: {about['note']}{accuracy}")
        for metric in report["metrics"]:
            if metric["features"] == about["name"]:
                lines.append(_line(metric["name"], metric))
        for metric in report["floor"]:
            if metric["features"] == about["name"] and metric["name"] == "frechet_distance":
                lines.append(_line(f"floor: {metric['what']}", metric))
    if near := report["neighbours"]:
        lines.append(
            f"  nearest of {near['num_train']:,} training examples, median distance ({near['unit']}): "
            f"{near['distance_median']:.3g} for {near['num_samples']:,} samples, "
            f"{near['distance_of_test_median']:.3g} for {near['num_test']:,} test examples"
        )
    return "\n".join([*lines, *(f"  {note}" for note in report["notes"])])


def _line(name, metric):
    ends = "" if metric["low"] is None else f"[{metric['low']:.4g}, {metric['high']:.4g}]"
    counts = f"{metric['num_samples']:,}"
    if metric["num_reference"]:
        counts += f" against {metric['num_reference']:,} of {metric['reference']}"
    return f"    {name:26} {metric['value']:10.4g}  {ends:22} {counts}"
