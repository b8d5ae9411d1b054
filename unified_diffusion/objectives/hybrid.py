"""L_simple for the mean and the variational bound for the variance."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.gaussian import bits_per_dim
from unified_diffusion.objectives.levels import WeightedLevels
from unified_diffusion.objectives.variational import bound_term
from unified_diffusion.reverse import check_variance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hybrid(WeightedLevels):
    """w(t) mean (eps_hat - eps)² + vlb_weight L_vlb, where L_vlb sees the mean as a constant and trains the variance.

    L_vlb = T L_{t-1} in bits per dimension at a random level t. Its weight of 0.001 times T is the T / 1000 by which
    the authors' code multiplies a single term. Nichol & Dhariwal 2021, eq. 16 and section 3.1.

    Args:
        vlb_weight: lambda.
        weighting, weighting_options, normalize: of the first part, as in `WeightedLevels`.
        time_sampler, time_sampler_options: of both parts, as there.
        discretized: the decoder gives the probability of a grey level of 256; if not, a density, for points.

    Raises:
        UserError: an unknown name or option, or a negative weight; when called, a denoiser without a learned variance.
    """

    vlb_weight: float = 0.001
    discretized: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.vlb_weight < 0:
            raise UserError(f"objective.vlb_weight = {self.vlb_weight}: it must not be negative")

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        state: Any = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), at levels and with noise drawn from `key`; `state` is the time sampler's memory.

        metrics are those of `at`, and "loss", its loss; the loss returned is it times the time sampler's weight.
        """
        time_key, noise_key = jax.random.split(key)
        t, importance = self.draw(denoiser.perturbation, time_key, len(x0), state)
        loss, metrics = self.at(denoiser, x0, t, jax.random.normal(noise_key, x0.shape), label)
        return importance * loss, metrics | {"loss": loss}

    def at(self, denoiser, x0, t, noise, label=None):
        """(loss `[B]`, metrics) at given levels t `[B]` and noise; metrics hold t, the error and L_vlb's sample."""
        check_variance(denoiser, "learned", "objective hybrid")
        process, axes = denoiser.perturbation, tuple(range(1, x0.ndim))
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        error = jnp.mean((prediction.eps - noise) ** 2, axes)
        frozen = prediction._replace(x0=jax.lax.stop_gradient(prediction.x0))
        nats = jnp.mean(bound_term(process, frozen, x0, t, "learned", self.discretized), axes)
        vlb = process.num_steps * bits_per_dim(nats, 1)
        return self.weight(process, t) * error + self.vlb_weight * vlb, {"t": t, "error": error, "vlb": vlb}
