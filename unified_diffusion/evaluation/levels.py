"""The error of a denoiser at each noise level."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from unified_diffusion import data
from unified_diffusion.keys import named_key


def loss_per_level(denoiser, dataset, times, *, batch_size=250, num_examples=0, seed=0, conditional=False):
    """The mean squared error in eps at each of `times`, over a dataset: `[len(times)]`, float64.

    The mean over examples of `error_per_level`, whose arguments it takes.
    """
    options = {"batch_size": batch_size, "num_examples": num_examples, "seed": seed, "conditional": conditional}
    return error_per_level(denoiser, dataset, times, **options).mean(axis=0)


def error_per_level(denoiser, dataset, times, *, batch_size=250, num_examples=0, seed=0, conditional=False):
    """The squared error in eps of each example at each of `times`, its dimensions' mean: `[examples, len(times)]`.

    The noise of an example at a level is drawn from (seed, example, level) alone: two models are measured on the same.

    Args:
        denoiser: the model, under the perturbation whose levels are measured.
        dataset: in memory or streamed; its first `num_examples` examples, or all for 0.
        times: levels t above 0.
    """
    measure = functools.partial(_errors, denoiser)
    return over_levels(measure, dataset, times, 1, batch_size, num_examples, seed, conditional)[0]


def over_levels(measure, dataset, times, count, batch_size, num_examples, seed, conditional):
    """`count` numbers of each example at each of `times`: `[count, examples, len(times)]`, float64.

    Args:
        measure: (x0, label, t, key, rows) -> `[count, B]`, for examples of these rows.
        dataset, times, batch_size, num_examples, seed, conditional: as in `error_per_level`.
    """
    key = named_key(seed, "loss per level")
    examples = min(num_examples or len(dataset), len(dataset))
    found = np.zeros((count, examples, len(times)))
    bar = tqdm(total=examples * len(times), unit="image", desc="evaluating", disable=not sys.stderr.isatty())
    with bar:
        for start in range(0, examples, batch_size):
            rows = np.arange(start, min(start + batch_size, examples))
            padded = np.resize(rows, batch_size)
            batch = dataset.gather(padded)
            label = jnp.asarray(batch["label"]) if conditional else None
            x0 = data.to_model(batch["x0"])
            for index, t in enumerate(times):
                values = measure(x0, label, jnp.asarray(t), key, jnp.asarray(padded))
                found[:, rows, index] = np.asarray(values)[:, : len(rows)]
                bar.update(len(rows))
    return found


def noise_of(process, x0, t, key, rows):
    """The noise of these rows' examples at level t."""
    level_key = jax.random.fold_in(key, process.level_number(t))
    keys = jax.vmap(functools.partial(jax.random.fold_in, level_key))(rows)
    return jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)


@jax.jit
def _errors(denoiser, x0, label, t, key, rows):
    """Mean squared error in eps of each example, at level t, `[1, B]`."""
    process = denoiser.perturbation
    noise = noise_of(process, x0, t, key, rows)
    eps = denoiser(process.perturb(x0, t, noise), t, label).eps
    return jnp.mean((eps - noise) ** 2, axis=tuple(range(1, x0.ndim)))[None]
