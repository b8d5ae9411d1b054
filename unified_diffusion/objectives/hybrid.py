"""L_simple for the mean, and the variational bound for the variance."""

import dataclasses

import jax
import jax.numpy as jnp

from unified_diffusion.errors import UserError
from unified_diffusion.gaussian import bits_per_dim
from unified_diffusion.objectives.base import WeightedLevels
from unified_diffusion.objectives.variational import bound_term
from unified_diffusion.reverse import check_variance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hybrid(WeightedLevels):
    """The loss w(t) mean (eps_hat - eps)² + vlb_weight L_vlb, whose second part trains the learned variance alone.

    L_vlb = T L_{t-1}, in bits per dimension, at a random level t; it treats the predicted mean as a constant. The
    authors' code multiplies a single term by T / 1000, which is T times the default weight of 0.001. Nichol & Dhariwal
    2021, eq. 16 and section 3.1.

    Args:
        vlb_weight: lambda, the weight of L_vlb.
        discretized: the decoder gives the probability of one of 256 grey levels; false gives a density, for points.
        weighting, weighting_options, normalize: of the first part, as in `WeightedLevels`.
        time_sampler, time_sampler_options: of both parts, as in `WeightedLevels`.

    Raises:
        UserError: an unknown name or option, or a negative weight; when called, a denoiser without a learned variance.
    """

    vlb_weight: float = 0.001
    discretized: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.vlb_weight < 0:
            raise UserError(f"objective.vlb_weight = {self.vlb_weight}: it must not be negative")

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        """Returns (loss `[B]`, metrics) at given levels and noise; metrics hold the error in eps, and "vlb", L_vlb."""
        check_variance(denoiser, "learned", "objective hybrid")
        process, axes = denoiser.perturbation, tuple(range(1, x0.ndim))
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        error = jnp.mean((prediction.eps - noise) ** 2, axes)
        frozen = prediction._replace(x0=jax.lax.stop_gradient(prediction.x0))
        nats = jnp.mean(bound_term(process, frozen, x0, t, "learned", self.discretized), axes)
        vlb = process.num_steps * bits_per_dim(nats, 1)
        return self.weight(process, t) * error + self.vlb_weight * vlb, {"t": t, "error": error, "vlb": vlb}
