"""The error of a denoiser at each noise level."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.evaluation.batches import first_rows, over_batches, progress_bar
from unified_diffusion.keys import named_key


def loss_per_level(denoiser, dataset, times, *, batch_size=250, num_examples=0, seed=0, conditional=False, codec=None):
    """The mean squared error in eps at each of `times`, over a dataset: `[len(times)]`, float64.

        losses = loss_per_level(denoiser, dataset, [1, 100, 500], num_examples=1000)

    This loss is the mean over examples of `error_per_level`, which takes the same arguments.
    """
    options = {"batch_size": batch_size, "num_examples": num_examples, "seed": seed, "conditional": conditional}
    options["codec"] = codec
    return error_per_level(denoiser, dataset, times, **options).mean(axis=0)


def error_per_level(denoiser, dataset, times, *, batch_size=250, num_examples=0, seed=0, conditional=False, codec=None):
    """The squared error in eps of each example at each of `times`, the mean over dimensions: `[examples, len(times)]`.

    The noise of an example at a level is drawn from (seed, example, level) alone, so two models are measured on the
    same noise.

    Args:
        denoiser: the model, under the perturbation whose levels are measured.
        dataset: a data set in memory or streamed.
        times: levels t above 0.
        batch_size: how many examples are measured at once.
        num_examples: how many examples are measured, from the first; 0 for all.
        seed: the seed of the noise.
        conditional: whether the network is told the labels of the examples.
        codec: the codec that the model was trained with; None takes the built-in one for the shape of the examples.
    """
    measure = functools.partial(_errors, denoiser)
    return over_levels(measure, dataset, times, batch_size, num_examples, seed, conditional, codec)[0]


def over_levels(measure, dataset, times, batch_size, num_examples, seed, conditional, codec=None):
    """The numbers that `measure` gives for each example at each of `times`: `[numbers, examples, len(times)]`, float64.

    Args:
        measure: a function (x0, label, t, key, rows) -> `[numbers, B]` for the examples of these rows.
        dataset, times, batch_size, num_examples, seed, conditional, codec: as in `error_per_level`.
    """
    key, rows = named_key(seed, "loss per level"), first_rows(dataset, num_examples)

    def of_batch(batch):
        x0, batch_rows = batch.x0, jnp.asarray(batch.rows)
        label = jnp.asarray(batch.label) if conditional else None
        found = []
        for t in times:
            found.append(np.asarray(measure(x0, label, jnp.asarray(t), key, batch_rows)).T)
            bar.update(batch.count)
        return np.stack(found, axis=1)

    with progress_bar(len(rows) * len(times), "image", "evaluating") as bar:
        found = over_batches(of_batch, dataset, rows, batch_size, codec)
    return np.moveaxis(found, -1, 0).astype(np.float64)


def noise_of(process, x0, t, key, rows):
    """The noise `[B, ...]` of the examples of these rows at level t."""
    level_key = jax.random.fold_in(key, process.level_number(t))
    keys = jax.vmap(functools.partial(jax.random.fold_in, level_key))(rows)
    return jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)


@jax.jit
def _errors(denoiser, x0, label, t, key, rows):
    """The mean squared error in eps of each example at level t, `[1, B]`."""
    process = denoiser.perturbation
    noise = noise_of(process, x0, t, key, rows)
    eps = denoiser(process.perturb(x0, t, noise), t, label).eps
    return jnp.mean((eps - noise) ** 2, axis=tuple(range(1, x0.ndim)))[None]
