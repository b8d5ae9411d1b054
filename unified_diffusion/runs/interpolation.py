"""The ways between pairs of test images, through the latents of DDIM's ODE."""

import jax
import numpy as np

from unified_diffusion import inversion
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json
from unified_diffusion.keys import named_key
from unified_diffusion.runs.folder import keep_previous
from unified_diffusion.visualization import image_grid, save_png


def write_interpolation(experiment, denoiser, step, dataset, workdir):
    """Writes interpolation.png, a row for each pair of test images, and interpolation.json, which tells how.

    A row is the first image, `interpolation.pair_images` decoded images from its own latent to the other's, and the
    second image. "reconstruction_error" is the mean absolute error of the decoded ends, in grey levels of 255. A chain
    of fewer levels than `interpolation.inversion_steps` is read as its continuous limit. In a conditional run both
    images of a pair are of one class, and the whole way has that class.

    Raises:
        UserError: data that are no images, or too few of them; or images on the way that are not finite.
    """
    sampling, settings, conditional = experiment.sampling, experiment.interpolation, experiment.model.conditional
    codec = experiment.codec
    if not codec.are_images:
        raise UserError("--mode=interpolate draws images, and these data are points")
    first, second = pairs(dataset, settings.pairs, sampling.seed, conditional)
    denoiser = experiment.unguided(denoiser)
    if denoiser.perturbation.num_steps < settings.inversion_steps:
        denoiser = denoiser.under(denoiser.perturbation.continuous)
    how = {"num_steps": settings.inversion_steps, "spacing": "uniform", "clip_x0": codec.clip_range == (-1.0, 1.0)}
    ends = [np.asarray(codec.encode(end["x0"])) for end in (first, second)]
    label = first["label"] if conditional else None
    way = np.asarray(inversion.interpolate(denoiser, ends[0], ends[1], settings.pair_images, label, **how))
    codec.check_finite(way, "ways")
    error = codec.data_scale * float(np.mean(np.abs(way[:, [0, -1]] - np.stack(ends, axis=1))))
    rows = np.concatenate([ends[0][:, None], way, ends[1][:, None]], axis=1)
    picture = image_grid(codec.decode(rows.reshape(-1, *experiment.shape)), columns=rows.shape[1])
    png, about = workdir / "interpolation.png", workdir / "interpolation.json"
    keep_previous(png, about)
    save_png(picture, png)
    report = {
        "step": step,
        **how,
        "perturbation": type(denoiser.perturbation).__name__,
        "pairs": len(way),
        "seed": sampling.seed,
        "ema": sampling.ema,
        "reconstruction_error": error,
    }
    write_json(about, report)
    print(f"the ends came back with a mean absolute error of {error:.2f} grey levels of 255; wrote {png}")


def pairs(dataset, number, seed, same_class=False):
    """Two batches of `number` examples each, drawn at random, no example twice.

    With `same_class` the examples i of both batches are of one class.

    Raises:
        UserError: too few examples.
    """
    order = np.asarray(jax.random.permutation(named_key(seed, "pairs"), len(dataset)))
    groups = [order]
    if same_class:
        labels = dataset.gather(order)["label"]
        groups = [order[labels == label] for label in np.unique(labels)]
    found = np.concatenate([group[: len(group) // 2 * 2].reshape(-1, 2) for group in groups])
    if len(found) < number:
        raise UserError(f"interpolation.pairs = {number}: the test split has only {len(found)}")
    # Evenly from all classes, when there are classes.
    chosen = found[np.linspace(0, len(found) - 1, number).astype(int)]
    return dataset.gather(chosen[:, 0]), dataset.gather(chosen[:, 1])
