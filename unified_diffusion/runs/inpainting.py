"""Test images completed from a part of them: inpainting, and colours for their grey."""

import dataclasses
import json

import jax
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json
from unified_diffusion.guidance import num_evaluations
from unified_diffusion.keys import named_key
from unified_diffusion.runs.folder import keep_previous
from unified_diffusion.runs.sampling import control, described, prepared
from unified_diffusion.samplers import Conditioned, generate
from unified_diffusion.visualization import image_grid, save_png


def write_inpainting(experiment, denoiser, step, dataset, workdir, train_data=None):
    """Writes inpainting.png, a column for each test image, and inpainting.json, which tells how.

    The rows are the image, its known part (the rest is mid-grey, or has no colour), and `inpainting.completions`
    completions. If a class can be asked for, the completions are of the image's own class, or of `sampling.label`. A
    picture that was made in the same way already stays; every other one is kept under another name. Only a sampler that
    needs data is given the training data.

    Raises:
        UserError: data that are no images, no colours to find, too few images, or a sampler that cannot be conditioned.
    """
    sampling, settings = experiment.sampling, experiment.inpainting
    codec = experiment.codec
    if not codec.are_images:
        raise UserError("--mode=inpaint completes images, and these data are points: give `Conditioned` a mask of them")
    mask, basis = known_part(settings.mask, experiment.shape)
    chosen = np.asarray(jax.random.permutation(named_key(sampling.seed, "inpainted"), len(dataset)))
    if len(chosen) < settings.masked_images:
        raise UserError(f"inpainting.masked_images = {settings.masked_images}: the test split has only {len(chosen)}")
    guided = experiment.for_sampling(denoiser)
    counted = Conditioned(experiment.sampler, 0.0, False, resamplings=settings.resamplings)
    how = {
        "step": step,
        "mask": settings.mask,
        "resamplings": settings.resamplings,
        "sampler": type(experiment.sampler).__name__,
        **dataclasses.asdict(experiment.sampler),
        "num_evaluations": num_evaluations(counted, guided),
        "under": described(experiment.sampled_under),
        "masked_images": settings.masked_images,
        "completions": settings.completions,
        "seed": sampling.seed,
        "ema": sampling.ema,
        **control(experiment, counted),
    }
    png, about = workdir / "inpainting.png", workdir / "inpainting.json"
    if png.exists() and about.exists() and json.loads(about.read_text()) == json.loads(json.dumps(how)):
        print(f"{png} is there already, made in the same way")
        return
    print(
        f"drawing {settings.completions} completions of each of {settings.masked_images} test images "
        f"(mask {settings.mask!r}), {how['num_evaluations']:,} network evaluations each",
        flush=True,
    )
    batch = dataset.gather(chosen[: settings.masked_images])
    images = np.asarray(codec.encode(batch["x0"]))
    sampler = prepared(experiment, denoiser, train_data)
    sampler = Conditioned(sampler, images, mask, basis=basis, resamplings=settings.resamplings)
    known = sampler.from_basis(np.where(mask, sampler.to_basis(images), 0))
    label = experiment.labels(len(images))
    if label is not None and sampling.label is None:
        label = batch["label"]
    keys = jax.random.split(named_key(sampling.seed, "inpainting"), settings.completions)
    # The completions of all images are one batch, since the sampler knows one observation for each sample of a batch.
    number = np.arange(len(images))
    keys = jax.vmap(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, number))(keys).ravel()
    labels = None if label is None else np.tile(label, settings.completions)
    completions = generate(sampler, guided, keys, len(keys), experiment.shape, batch_size=len(images), labels=labels)
    rows = np.concatenate([images, known, completions])
    picture = image_grid(codec.decode(rows, "images"), columns=len(images))
    keep_previous(png, about)
    save_png(picture, png)
    write_json(about, how)
    print(f"wrote {png}: test images, what was known of them, and the completions below")


def known_part(name, shape):
    """(mask, basis) of the known part that `inpainting.mask` names, for images of this shape.

    Raises:
        UserError: colours of images that have none.
    """
    height, width, channels = shape
    if name == "grey":
        if channels != 3:
            raise UserError(
                "inpainting.mask = 'grey' finds colours, and these images have none: take 'half' or 'centre'"
            )
        return np.array([True, False, False]), "grey"
    row, column = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    if name == "half":
        return np.broadcast_to(row < height // 2, (height, width, 1)), None
    inside = (abs(2 * row - height + 1) < height / 2) & (abs(2 * column - width + 1) < width / 2)
    return ~inside, None
