"""Denoising: the one loss of DDPM and NCSN."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.objectives.levels import WeightedLevels
from unified_diffusion.registry import lookup

NORMS = {"l2": jnp.square, "l1": jnp.abs, "huber": optax.losses.huber_loss}
REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(WeightedLevels):
    """w(t) ‖eps_hat(x_t, t) - eps‖² at a random level t of each example.

    With `simple` it is DDPM's L_simple (Ho et al. 2020, eq. 14) and, since score = -eps / sigma, NCSN's sigma²-weighted
    denoising score matching (Song & Ermon 2019, eq. 5); with `vlb` and reduction "sum", a term of the bound in nats.

    Args:
        weighting, weighting_options, normalize, time_sampler, time_sampler_options: as in `WeightedLevels`.
        norm: "l2" (squares), "l1" or "huber" (delta = 1), of the error in eps.
        reduction: "mean" over an example's dimensions, DDPM's choice, or "sum", the papers' ‖·‖².

    Raises:
        UserError: an unknown name or option, or an option's value out of range.
    """

    norm: str = "l2"
    reduction: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        lookup(NORMS, self.norm, "norm")
        lookup(REDUCTIONS, self.reduction, "reduction")

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        state: Any = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), at levels and with noise drawn from `key`.

        metrics hold t, the error, and "loss", the weighted error; the returned loss is that times the time sampler's
        weight. `state` is what the time sampler remembers; without it, one draws as before its first batch.
        """
        time_key, noise_key = jax.random.split(key)
        t, importance = self.draw(denoiser.perturbation, time_key, len(x0), state)
        noise = jax.random.normal(noise_key, x0.shape)
        loss, metrics = self.at(denoiser, x0, t, noise, label)
        return importance * loss, metrics | {"loss": loss}

    def at(self, denoiser, x0, t, noise, label=None):
        """(loss `[B]`, metrics) at given levels t `[B]` and noise; metrics hold t and the error before its weight."""
        process = denoiser.perturbation
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        errors = lookup(NORMS, self.norm, "norm")(prediction.eps - noise)
        error = lookup(REDUCTIONS, self.reduction, "reduction")(errors, axis=tuple(range(1, errors.ndim)))
        return self.weight(process, t) * error, {"t": t, "error": error}
