"""Samples of a run: samples.npz, a picture, and how they were made."""

import dataclasses
import json

import jax
import numpy as np

from unified_diffusion.files import write_atomically, write_json
from unified_diffusion.keys import named_key
from unified_diffusion.runs.folder import keep_previous
from unified_diffusion.runs.trajectory import write_trajectory
from unified_diffusion.samplers import generate
from unified_diffusion.training.mesh import batch_sharding, data_mesh
from unified_diffusion.visualization import save_png


def draw(experiment, denoiser, number, sampler, progress=None, evaluations=None):
    """(samples `[number, ...]`, labels or None); the codec has decoded the samples: uint8 images, or float32 points.

    Args:
        experiment: the run's objects, whose `sampling` and `under` hold.
        denoiser: the denoiser as it was trained.
        number: how many samples are drawn.
        sampler: the experiment's sampler, as `prepared` gives it.
        progress: as in `generate`.
        evaluations: a list that gets the network evaluations of each sample, or None.

    Raises:
        NotFinite: samples have values that are NaN or infinite.
    """
    sampling, mesh = experiment.sampling, data_mesh()
    labels = experiment.labels(number)
    # A multiple of the number of devices; a sample does not depend on the number that is drawn with it.
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
    return experiment.codec.decode(np.asarray(samples)), labels


def prepared(experiment, denoiser, dataset, limit=None):
    """The experiment's sampler, prepared for the denoiser without its guidance.

    A sampler that needs data gets `sampling.fitting_examples` of the training data, `limit` at most: always the same
    ones for a seed.
    """
    sampling, sampler, key = experiment.sampling, experiment.sampler, named_key(experiment.sampling.seed, "fitting")
    x0, label = None, None
    if sampler.needs_data:
        number = min(sampling.fitting_examples, len(dataset), limit or len(dataset))
        batch = dataset.gather(np.asarray(jax.random.permutation(key, len(dataset)))[:number])
        x0 = np.asarray(experiment.codec.encode(batch["x0"]))
        label = batch["label"] if experiment.model.conditional else None
    denoiser = experiment.unguided(denoiser)
    return sampler.prepare(denoiser, x0, jax.random.fold_in(key, 1), label, sampling.batch_size)


def write_samples(experiment, denoiser, step, workdir, dataset, reference=None):
    """Writes samples.npz (`arr_0`, and `labels` if conditional), samples.png, and samples.json, which has the settings.

    Samples that were made in the same way already stay; all others are kept under another name. With `sampling.frames`
    there are strips.png and sampling.gif, too, of the samples on their way from noise.

    samples.json has the "num_evaluations" of the network for each sample. For an adaptive sampler "num_evaluations" is
    the most that a sample may take, and "measured_evaluations" has the counts that were measured. A sampler that needs
    data has "fitting", the number of training examples and of the network evaluations for all of them, and "fitted",
    the settings that the preparation changed.

    Args:
        experiment: the run's objects.
        denoiser: the denoiser as it was trained.
        step: the number of steps that it was trained for.
        workdir: the run's folder.
        dataset: the training data; only a sampler that needs data is given them.
        reference: examples of the data to show with the samples, or None.

    Raises:
        NotFinite: samples have values that are NaN or infinite; nothing is written then.
    """
    sampling = experiment.sampling
    fitting = None
    if experiment.sampler.needs_data:
        examples = min(sampling.fitting_examples, len(dataset))
        each = experiment.sampler.preparation_evaluations(experiment.sampled_under)
        fitting = {"examples": examples, "evaluations": examples * each}
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
        cost = f"{each:,} network evaluations each"
        print(f"fitting the sampler to {examples:,} training examples, {cost}", flush=True)
    sampler = prepared(experiment, denoiser, dataset)
    most = "at most " if sampler.adaptive else ""
    cost = f"{most}{how['num_evaluations']:,} network evaluations each"
    print(f"drawing {sampling.num_images:,} samples, {cost}", flush=True)
    taken = []
    samples, labels = draw(experiment, denoiser, sampling.num_images, sampler, evaluations=taken)
    keep_previous(*files)
    arrays = {"arr_0": samples} if labels is None else {"arr_0": samples, "labels": labels}
    write_atomically(archive, lambda file: np.savez(file, **arrays))
    save_png(experiment.codec.picture(samples, labels, reference, sampling.grid), png)
    if sampling.frames:
        write_trajectory(experiment, denoiser, sampler, strips, gif)
    came_of_it, said = {}, f", {strips} and {gif}" if sampling.frames else ""
    if sampler is not experiment.sampler:
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
    """{"label", "guidance", "classifier"} of samples.json: the class asked for, and the guides; Nones without them."""
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
    fields = {}
    if dataclasses.is_dataclass(perturbation) and not isinstance(perturbation, type):
        fields = dataclasses.asdict(perturbation)
    arrays = {name: value.tolist() for name, value in fields.items() if isinstance(value, np.ndarray)}
    return {"name": type(perturbation).__name__, **fields, **arrays}


def _changes(sampler, ready):
    """{field: value} of the settings that the preparation changed."""
    before = dataclasses.asdict(sampler)
    return {name: value for name, value in dataclasses.asdict(ready).items() if value != before[name]}


def _same(about, how):
    """Whether the file `about` tells the settings `how`; the file of an older version lacks some of them."""
    older = {**dict.fromkeys(("under", "fitting", "label", "guidance", "classifier")), "frames": 0}
    told = {**older, **json.loads(about.read_text())}
    for name in ("fitted", "measured_evaluations"):
        told.pop(name, None)
    return told == json.loads(json.dumps(how))
