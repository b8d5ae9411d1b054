"""Samples of a run: samples.npz, a picture, and how they were made."""

import dataclasses
import json

import jax
import numpy as np

from unified_diffusion.data import to_model, to_uint8
from unified_diffusion.files import write_json
from unified_diffusion.keys import named_key
from unified_diffusion.runs.folder import keep_previous
from unified_diffusion.runs.trajectory import write_trajectory
from unified_diffusion.samplers import generate
from unified_diffusion.training.mesh import batch_sharding, data_mesh
from unified_diffusion.visualization import image_grid, plot_points, save_png


def draw(experiment, denoiser, number, sampler, progress=None, evaluations=None):
    """(samples `[number, ...]`, labels or None): uint8 images, or float32 points.

    The denoiser is given as it was trained, and read under the experiment's `under`; the sampler is the experiment's,
    as `fitted` gives it. `evaluations` is a list that gets what it took for each sample.
    """
    sampling, mesh = experiment.sampling, data_mesh()
    labels = experiment.labels(number)
    # A multiple of the devices: a sample does not depend on how many are drawn with it.
    batch_size = -(-min(number, sampling.batch_size) // mesh.size) * mesh.size
    samples = generate(
        sampler,
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


def fitted(experiment, denoiser, dataset, limit=None):
    """The experiment's sampler, fitted to the denoiser, unguided, if it has to be.

    That takes `sampling.fitting_examples` of the training data, `limit` at most: always the same ones of a seed.
    """
    if not experiment.fitting_evaluations:
        return experiment.sampler
    sampling, key = experiment.sampling, named_key(experiment.sampling.seed, "fitting")
    number = min(sampling.fitting_examples, len(dataset), limit or len(dataset))
    batch = dataset.gather(np.asarray(jax.random.permutation(key, len(dataset)))[:number])
    return experiment.sampler.fitted(
        experiment.unguided(denoiser),
        np.asarray(to_model(batch["x0"])),
        jax.random.fold_in(key, 1),
        batch["label"] if experiment.model.conditional else None,
        sampling.batch_size,
    )


def picture(samples, reference=None, labels=None):
    """A grid of images, of which a column is one class where the labels are some few in turn; or a plot of points."""
    if samples.ndim != 4:
        return plot_points(samples, reference)
    classes = 0 if labels is None else len(np.unique(labels))
    return image_grid(samples, columns=classes if 1 < classes <= 20 else None)


def write_samples(experiment, denoiser, step, workdir, dataset, reference=None):
    """Writes samples.npz (`arr_0`, and `labels` where conditional), samples.png and samples.json, which tells how.

    Samples that are there already and were made in the same way stay; others are kept under another name. The training
    data are asked for only by a sampler that has to be fitted; samples.json then has "fitting": how many of them, and
    the network evaluations that this took in all, beside the "num_evaluations" of each sample; and "fitted": what came
    of it. Of an adaptive sampler "num_evaluations" is the most that a sample may take, and "measured_evaluations" what
    they took. With `sampling.frames` there are strips.png and sampling.gif, too, of the samples on their way.
    """
    sampling = experiment.sampling
    fitting = None
    if experiment.fitting_evaluations:
        examples = min(sampling.fitting_examples, len(dataset))
        fitting = {"examples": examples, "evaluations": examples * experiment.fitting_evaluations}
    how = {
        "step": step,
        "sampler": type(experiment.sampler).__name__,
        **dataclasses.asdict(experiment.sampler),
        "num_evaluations": experiment.num_evaluations,
        "fitting": fitting,
        "perturbation": type(experiment.model.perturbation).__name__,
        "under": None if experiment.under is None else described(experiment.under),
        "num_images": sampling.num_images,
        "seed": sampling.seed,
        "ema": sampling.ema,
        "grid": sampling.grid,
        **control(experiment, experiment.sampler),
        "frames": sampling.frames,
    }
    files = [workdir / name for name in ("samples.npz", "samples.png", "samples.json", "strips.png", "sampling.gif")]
    archive, png, about, strips, gif = files
    if all(path.exists() for path in files[: 5 if sampling.frames else 3]) and _same(about, how):
        print(f"{archive} is there already, made in the same way")
        return
    if fitting:
        cost = f"{experiment.fitting_evaluations:,} network evaluations each"
        print(f"fitting the sampler to {fitting['examples']:,} training examples, {cost}", flush=True)
    sampler = fitted(experiment, denoiser, dataset)
    most = "at most " if sampler.adaptive else ""
    cost = f"{most}{how['num_evaluations']:,} network evaluations each"
    print(f"drawing {sampling.num_images:,} samples, {cost}", flush=True)
    taken = []
    samples, labels = draw(experiment, denoiser, sampling.num_images, sampler, evaluations=taken)
    keep_previous(*files)
    np.savez(archive, arr_0=samples, **({} if labels is None else {"labels": labels}))
    shown = slice(sampling.grid) if samples.ndim == 4 else slice(None)
    save_png(picture(samples[shown], reference, None if labels is None else labels[shown]), png)
    if sampling.frames:
        write_trajectory(experiment, denoiser, sampler, strips, gif)
    came_of_it, said = {}, f", {strips} and {gif}" if sampling.frames else ""
    if fitting:
        came_of_it["fitted"] = _changes(experiment.sampler, sampler)
    if sampler.adaptive:
        # Guidance doubles each of the calls.
        taken = np.array(taken) * (how["num_evaluations"] // sampler.num_evaluations(experiment.sampled_under))
        measured = {"mean": float(taken.mean()), "min": int(taken.min()), "max": int(taken.max())}
        came_of_it["measured_evaluations"] = measured
        said += "; {mean:.1f} evaluations a sample, {min} to {max}".format(**measured)
    write_json(about, {**how, **came_of_it})
    print(f"wrote {archive} and {png}{said}")


def control(experiment, sampler):
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
            "num_gradients": sampler.num_evaluations(experiment.sampled_under),
        }
    return {"label": sampling.label, "guidance": guidance, "classifier": classifier}


def described(perturbation):
    """{"name": its class, field: value}."""
    fields = dataclasses.asdict(perturbation) if dataclasses.is_dataclass(perturbation) else {}
    arrays = {name: value.tolist() for name, value in fields.items() if isinstance(value, np.ndarray)}
    return {"name": type(perturbation).__name__, **fields, **arrays}


def _changes(sampler, fitted):
    """{field: value} of what fitting gave it."""
    before = dataclasses.asdict(sampler)
    return {name: value for name, value in dataclasses.asdict(fitted).items() if value != before[name]}


def _same(about, how):
    """Whether samples.json tells `how`; one of an older version does not say all of it."""
    older = {**dict.fromkeys(("under", "fitting", "label", "guidance", "classifier")), "frames": 0}
    told = {**older, **json.loads(about.read_text())}
    for name in ("fitted", "measured_evaluations"):
        told.pop(name, None)
    return told == json.loads(json.dumps(how))
