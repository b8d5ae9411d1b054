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


def draw(experiment, denoiser, number, progress=None):
    """(samples `[number, ...]`, labels or None): uint8 images, or float32 points.

    The denoiser is given as it was trained, and read under the experiment's `under`.
    """
    sampling, mesh = experiment.sampling, data_mesh()
    labels = experiment.labels(number)
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
    )
    return (to_uint8(samples) if len(experiment.shape) == 3 else samples), labels


def picture(samples, reference=None, labels=None):
    """A grid of images, of which a column is one class where the labels are some few in turn; or a plot of points."""
    if samples.ndim != 4:
        return plot_points(samples, reference)
    classes = 0 if labels is None else len(np.unique(labels))
    return image_grid(samples, columns=classes if 1 < classes <= 20 else None)


def write_samples(experiment, denoiser, step, workdir, reference=None):
    """Writes samples.npz (`arr_0`, and `labels` where conditional), samples.png and samples.json, which tells how.

    Samples that are there already and were made in the same way stay; others are kept under another name.
    """
    sampling = experiment.sampling
    how = {
        "step": step,
        "sampler": type(experiment.sampler).__name__,
        **dataclasses.asdict(experiment.sampler),
        "num_evaluations": experiment.num_evaluations,
        "perturbation": type(experiment.model.perturbation).__name__,
        "under": None if experiment.under is None else _described(experiment.under),
        "num_images": sampling.num_images,
        "seed": sampling.seed,
        "ema": sampling.ema,
        "grid": sampling.grid,
        **_control(experiment),
    }
    files = [workdir / name for name in ("samples.npz", "samples.png", "samples.json")]
    archive, png, about = files
    if all(path.exists() for path in files) and _same(about, how):
        print(f"{archive} is there already, made in the same way")
        return
    print(f"drawing {sampling.num_images:,} samples, {how['num_evaluations']:,} network evaluations each", flush=True)
    samples, labels = draw(experiment, denoiser, sampling.num_images)
    keep_previous(*files)
    np.savez(archive, arr_0=samples, **({} if labels is None else {"labels": labels}))
    shown = slice(sampling.grid) if samples.ndim == 4 else slice(None)
    save_png(picture(samples[shown], reference, None if labels is None else labels[shown]), png)
    write_json(about, how)
    print(f"wrote {archive} and {png}")


def _control(experiment):
    """{"label", "guidance", "classifier"} of samples.json: the class asked for, and what guides; Nones for nothing."""
    sampling = experiment.sampling
    guidance, classifier = None, None
    if sampling.guidance_scale != 1:
        guidance = {"scale": sampling.guidance_scale, "interval": sampling.guidance_interval}
    if experiment.classifier is not None:
        classifier = {
            "workdir": sampling.classifier,
            "step": experiment.classifier_step,
            "scale": sampling.classifier_scale,
            "num_gradients": experiment.sampler.num_evaluations(experiment.sampled_under),
        }
    return {"label": sampling.label, "guidance": guidance, "classifier": classifier}


def _described(perturbation):
    """{"name": its class, field: value}."""
    fields = dataclasses.asdict(perturbation) if dataclasses.is_dataclass(perturbation) else {}
    arrays = {name: value.tolist() for name, value in fields.items() if isinstance(value, np.ndarray)}
    return {"name": type(perturbation).__name__, **fields, **arrays}


def _same(about, how):
    """Whether samples.json tells `how`; one of an older version does not say all of it."""
    older = dict.fromkeys(("under", "label", "guidance", "classifier"))
    return {**older, **json.loads(about.read_text())} == json.loads(json.dumps(how))
