"""Folders of sweeps that never ran: the files that a sweep leaves, with numbers made up from a seed."""

import itertools
import json

import numpy as np
from PIL import Image

METRICS = {
    "frechet_distance": (12.0, "lower"),
    "kernel_distance": (0.02, "lower"),
    "inception_score": (7.0, "higher"),
    "precision": (0.8, "higher"),
    "recall": (0.6, "higher"),
    "density": (0.9, "higher"),
    "coverage": (0.7, "higher"),
}


def fake_sweep(directory, grid, states=None, **options):
    """Writes a sweep's folder, and returns its runs' names.

    Args:
        directory: made if it is not there.
        grid: {field: values}, of which every combination is a run; or a list of overrides.
        states: {index: state} of runs that have not finished.
        options: "sweep", more of sweep.json; "shape", of the samples, (8, 8, 1) if not said, or (2,) for points;
            "metrics", False for runs that no metrics were measured of; "trained_in", {index: index}; "evaluations", the
            network evaluations of each run, 50 if not said.
    """
    overrides = grid if isinstance(grid, list) else combinations(grid)
    names = [",".join(f"{field}={value}" for field, value in said.items()) or "run" for said in overrides]
    trained_in = {names[a]: names[b] for a, b in options.get("trained_in", {}).items()}
    plans = [
        {"name": name, "overrides": said, "trained_in": trained_in.get(name)}
        for name, said in zip(names, overrides, strict=True)
    ]
    directory.mkdir(parents=True, exist_ok=True)
    write(
        directory / "sweep.json",
        {
            "command": "python -m experiments.sweep --config=ddpm_digits.py --workdir=runs/fake",
            "config": "ddpm_digits.py",
            "started": "2026-11-20 13:00 UTC",
            **options.get("sweep", {}),
            "runs": plans,
        },
    )
    for index, plan in enumerate(plans):
        fake_run(directory / "runs" / plan["name"], plan, index, (states or {}).get(index, "finished"), options)
    return names


def combinations(grid):
    """The overrides that a grid stands for."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def fake_run(directory, plan, index, state, options):
    """A run's folder in one of the five states."""
    generator = np.random.default_rng(index)
    finished = state == "finished"
    write(
        directory / "run.json",
        {
            **plan,
            "state": state,
            "attempts": 2 if state == "failed" else 1,
            "seconds": {"training": 60.0 + index, "sampling": 8.0, "evaluation": 4.0} if finished else {},
            "images_per_second": 700.0 + index if finished else None,
            "error": "Traceback (most recent call last):\n  <b>ValueError</b>: the loss is nan & void"
            if state == "failed"
            else None,
            "device": "1 x cpu",
            "versions": {"jax": "0.10.2", "unified_diffusion": "0.1.0"},
        },
    )
    if state == "waiting":
        return
    write(directory / "config.json", config(plan["overrides"]))
    if plan["trained_in"] is None:
        curve(directory / "metrics.jsonl", generator, 1400 if finished else 500)
    if finished:
        samples(directory, generator, options.get("shape", (8, 8, 1)))
        found = evaluation(directory, plan, generator, options.get("metrics", True))
        if "evaluations" in options:
            found["samples"]["num_evaluations"] = options["evaluations"][index]
        write(directory / "eval.json", found)


def config(overrides):
    """A resolved config, of a few fields."""
    resolved = {
        "seed": 0,
        "perturbation": {"name": "ddpm", "num_steps": 1000},
        "objective": {"name": "denoising", "weighting": "simple", "weighting_options": {}},
        "training": {"steps": 1400, "batch_size": 64},
    }
    for field, value in overrides.items():
        section, _, name = field.partition(".")
        if name:
            resolved.setdefault(section, {})[name] = value
        else:
            resolved[section] = value
    return resolved


def curve(path, generator, last):
    """metrics.jsonl up to step `last`, with a line that is still being written."""
    loss = generator.uniform(0.1, 0.3)
    rows = [
        {
            "step": step,
            "loss": loss * (1 + 9 / step**0.5) * generator.uniform(0.95, 1.05),
            "gradient_norm": generator.uniform(0.1, 1),
            "images_per_second": 700.0,
            "time": 1.0,
        }
        for step in (1, *range(100, last + 1, 100))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 15')


def samples(directory, generator, shape):
    """samples.npz, samples.json and samples.png."""
    arrays = generator.integers(0, 256, (100, *shape), np.uint8) if len(shape) == 3 else generator.normal(size=(100, 2))
    np.savez(directory / "samples.npz", arr_0=arrays)
    write(directory / "samples.json", {"num_evaluations": 50, "num_images": 100, "seed": 0, "sampler": "Ancestral"})
    Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(directory / "samples.png")


def evaluation(directory, plan, generator, metrics):
    """eval.json, and neighbours.png beside it."""
    log_snr = np.linspace(10, -10, 25)
    error = 1 / (1 + np.exp(-log_snr / 3)) * generator.uniform(0.8, 1.2)
    rows = {"t": range(1, 26), "log_snr": log_snr, "error": error, "loss": error, "effective_weight": error / 25}
    found = {
        "step": 1400,
        "num_parameters": 1000,
        "num_examples": 299,
        "test_loss": float(error.mean()),
        "test_loss_standard_error": 0.01,
        "test_error": float(error.mean()),
        "test_error_standard_error": 0.01,
        "levels": [dict(zip(rows, map(float, row), strict=True)) for row in zip(*rows.values(), strict=True)],
        "bound": {"unit": "bits/dim", "total": 4.5, "bits_per_dim": 4.5, "standard_error": 0.03, "num_steps": 100}
        | {"num_examples": 128, "diffusion_per_level": [{"log_snr": float(x), "cost": 0.1} for x in log_snr]},
        "samples": {"num_samples": 100, "num_evaluations": 50, "sampler": "Ancestral", "perturbation": "DDPM"},
    }
    if not metrics:
        return found
    better = 1 + sum(map(ord, json.dumps({k: v for k, v in plan["overrides"].items() if k != "seed"}))) % 17
    Image.fromarray(generator.integers(0, 256, (60, 90, 3), np.uint8)).save(directory / "neighbours.png")
    return found | {
        "metrics": [
            metric(
                name, features, value * (better if name == "frechet_distance" else 1) * generator.uniform(0.98, 1.02)
            )
            for features in ("classifier", "pixels")
            for name, (value, _) in METRICS.items()
        ],
        "features": [
            {"name": "classifier", "dimension": 64, "accuracy": 0.983, "fingerprint": "1a2b3c4d", "note": "<made up>"},
            {"name": "pixels", "dimension": 64, "accuracy": None, "fingerprint": None, "note": "the grey levels"},
        ],
        "notes": ["inception: torch-fidelity is not installed"],
        "floor": [
            {"what": what, **metric("frechet_distance", features, value)}
            for features in ("classifier", "pixels")
            for what, value in (("train with itself", 0.0), ("two halves of train", 3.1), ("test against train", 6.2))
        ],
        "neighbours": {
            "unit": "RMSE on [0, 255]",
            "picture": "neighbours.png",
            "distance_median": 1.25,
            "distance_of_test_median": 1.5,
            "share_nearer": 0.31,
            "share_nearer_low": 0.28,
            "share_nearer_high": 0.34,
        },
    }


def metric(name, features, value):
    """A row of eval.json's metrics."""
    row = {"name": name, "features": features, "value": value, "low": 0.97 * value, "high": 1.03 * value}
    alone = name == "inception_score"
    against = {"reference": "none" if alone else "digits train", "num_reference": 0 if alone else 1498}
    return row | against | {"num_samples": 100, "better": METRICS[name][1]}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
