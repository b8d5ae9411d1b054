"""Samples of a run: samples.npz, a picture, and how they were made."""

import dataclasses
import json

import numpy as np

from experiments.workdir import keep_previous, write_json
from unified_diffusion.data import to_uint8
from unified_diffusion.keys import named_key
from unified_diffusion.samplers import generate
from unified_diffusion.training.mesh import batch_sharding, data_mesh
from unified_diffusion.visualization import image_grid, plot_points, save_png


def draw(experiment, denoiser, number, progress=None, evaluations=None):
    """(samples `[number, ...]`, labels or None): uint8 images, or float32 points.

    The denoiser is given as it was trained, and read under the experiment's `under`.
    `evaluations` is a list that gets what each sample took.
    """
    sampling, mesh = experiment.sampling, data_mesh()
    labels = np.arange(number, dtype=np.int32) % experiment.num_classes if experiment.model.conditional else None
    # A multiple of the devices: a sample does not depend on how many are drawn with it.
    batch_size = -(-min(number, sampling.batch_size) // mesh.size) * mesh.size
    samples = generate(
        experiment.sampler,
        experiment.for_sampling(denoiser),
        named_key(sampling.seed, "samples"),
        number,
        experiment.shape,
        batch_size=batch_size,
        labels=labels,
        sharding=batch_sharding(mesh),
        progress=progress,
        evaluations=evaluations,
    )
    return (to_uint8(samples) if len(experiment.shape) == 3 else samples), labels


def picture(samples, reference=None):
    """A grid of images, or a scatter plot of points over the data's."""
    return image_grid(samples) if samples.ndim == 4 else plot_points(samples, reference)


def write_samples(experiment, denoiser, step, workdir, reference=None):
    """Writes samples.npz (`arr_0`, and `labels` where conditional), samples.png and samples.json, which tells how.

    Samples that are there already and were made in the same way stay; others are kept under another name. Of an
    adaptive sampler "num_evaluations" is the most that a sample may take, and "measured_evaluations" what they took.
    """
    sampling = experiment.sampling
    how = {
        "step": step,
        "sampler": type(experiment.sampler).__name__,
        **dataclasses.asdict(experiment.sampler),
        "num_evaluations": experiment.sampler.num_evaluations(experiment.sampled_under),
        "perturbation": type(experiment.model.perturbation).__name__,
        "under": None if experiment.under is None else _described(experiment.under),
        "num_images": sampling.num_images,
        "seed": sampling.seed,
        "ema": sampling.ema,
        "grid": sampling.grid,
    }
    files = [workdir / name for name in ("samples.npz", "samples.png", "samples.json")]
    archive, png, about = files
    if all(path.exists() for path in files) and _same(about, how):
        print(f"{archive} is there already, made in the same way")
        return
    most = "at most " if experiment.sampler.adaptive else ""
    evaluations = f"{most}{how['num_evaluations']:,} network evaluations each"
    print(f"drawing {sampling.num_images:,} samples, {evaluations}", flush=True)
    taken = []
    samples, labels = draw(experiment, denoiser, sampling.num_images, evaluations=taken)
    keep_previous(*files)
    np.savez(archive, arr_0=samples, **({} if labels is None else {"labels": labels}))
    save_png(picture(samples[: sampling.grid] if samples.ndim == 4 else samples, reference), png)
    said = ""
    if experiment.sampler.adaptive:
        measured = {"mean": float(np.mean(taken)), "min": int(np.min(taken)), "max": int(np.max(taken))}
        how["measured_evaluations"] = measured
        said = "; {mean:.1f} evaluations a sample, {min} to {max}".format(**measured)
    write_json(about, how)
    print(f"wrote {archive} and {png}{said}")


def _described(perturbation):
    """{"name": its class, field: value}."""
    fields = dataclasses.asdict(perturbation) if dataclasses.is_dataclass(perturbation) else {}
    arrays = {name: value.tolist() for name, value in fields.items() if isinstance(value, np.ndarray)}
    return {"name": type(perturbation).__name__, **fields, **arrays}


def _same(about, how):
    """Whether samples.json tells `how`; where it is of an older version it does not say `under`."""
    there = {"under": None, **json.loads(about.read_text())}
    there.pop("measured_evaluations", None)
    return there == json.loads(json.dumps(how))
