"""The Fisher divergence of a denoiser at each noise level, where the exact score is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unified_diffusion.evaluation.batches import progress_bar
from unified_diffusion.keys import named_key


class FisherDivergence(NamedTuple):
    """The Fisher divergence at each level, float64 `[levels]`.

    Attributes:
        divergence: ½ E‖s_hat(x_t) - s(x_t)‖², summed over dimensions, in 1 / (data units)². Hyvärinen 2005, eq. 2.
        scaled: sigma² times the divergence, ½ E‖eps_hat - E[eps | x_t]‖², which is half of the excess of a denoising
            loss over its minimum.
        scaled_error: the standard error of `scaled`.
    """

    divergence: Float[np.ndarray, " levels"]
    scaled: Float[np.ndarray, " levels"]
    scaled_error: Float[np.ndarray, " levels"]


def fisher_divergence(denoiser, mixture, times, *, num_samples=10_000, batch_size=5000, seed=0):
    """The Fisher divergence between a denoiser's score and the exact score of a Gaussian mixture, at noise levels.

    Both scores are read under the perturbation of the denoiser, at x_t drawn from the mixture itself. The draws of a
    level depend on (seed, level, batch) alone, so two models are measured on the same draws.

    Args:
        denoiser: the model.
        mixture: the data's `analytic.GaussianMixture`.
        times: levels t above 0.
        num_samples: the number of x_t at each level, rounded up to whole batches.
        batch_size: how many x_t are measured at once.
        seed: the seed of the draws.

    Returns:
        A `FisherDivergence`.
    """
    key = named_key(seed, "fisher divergence")
    batches = -(-num_samples // batch_size)
    squares = np.empty((len(times), batches, batch_size))
    with progress_bar(squares.size, "point", "Fisher divergence") as bar:
        for row, t in zip(squares, times, strict=True):
            level_key = jax.random.fold_in(key, denoiser.perturbation.level_number(t))
            for number in range(batches):
                batch_key = jax.random.fold_in(level_key, number)
                row[number] = _squares(denoiser, mixture, jnp.asarray(t), batch_key, batch_size)
                bar.update(batch_size)
    squares = squares.reshape(len(times), -1)
    scaled = squares.mean(axis=1) / 2
    error = squares.std(axis=1) / 2 / np.sqrt(squares.shape[1])
    variance = np.asarray(denoiser.perturbation.sigma(np.asarray(times)), np.float64) ** 2
    return FisherDivergence(scaled / variance, scaled, error)


@jax.jit(static_argnames="count")
def _squares(denoiser, mixture, t, key, count):
    """The squares ‖eps_hat - E[eps | x_t]‖² `[count]` at level t: sigma² times the squared difference of the scores."""
    process = denoiser.perturbation
    data_key, noise_key = jax.random.split(key)
    x0 = mixture.sample(data_key, count)
    x_t = process.perturb(x0, t, jax.random.normal(noise_key, x0.shape))
    return jnp.sum((denoiser(x_t, t).eps - mixture.denoiser(process)(x_t, t).eps) ** 2, axis=1)
