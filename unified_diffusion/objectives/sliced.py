"""Sliced score matching, which estimates the trace along random directions."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from unified_diffusion.errors import UserError
from unified_diffusion.objectives.score_matching import ScoreMatching, derivatives
from unified_diffusion.registry import lookup

PROJECTIONS = {"rademacher": jax.random.rademacher, "gaussian": jax.random.normal}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sliced(ScoreMatching):
    """The loss w(t) sigma² (‖s‖² + 2 v·∇s v) along random directions v, where s is the score at x_t.

    This is the variance-reduced form SSM-VR of Song et al. 2019, section 3.1, times 2 sigma²: it uses
    E[(v·s)²] = ‖s‖². Without variance reduction, SSM is w(t) sigma² ((v·s)² + 2 v·∇s v). Since E[v vᵀ] = I, both equal
    `Implicit` in expectation, and they cost one forward-mode pass for each direction. `ScoreMatching` says how the loss
    relates to `Denoising`.

    Args:
        weighting, weighting_options, normalize, time_sampler, time_sampler_options: as in `WeightedLevels`.
        level, reduction: as in `ScoreMatching`.
        projections: the distribution of v: "rademacher", independent signs, or "gaussian".
        num_projections: directions for each example, over which the mean is taken.
        variance_reduced: true for SSM-VR, false for SSM.

    Raises:
        UserError: an unknown name, or no projections; when called, a level that does not exist.
    """

    projections: str = "rademacher"
    num_projections: int = 1
    variance_reduced: bool = True

    def __post_init__(self):
        super().__post_init__()
        lookup(PROJECTIONS, self.projections, "distribution of projections")
        if self.num_projections < 1:
            raise UserError(f"num_projections = {self.num_projections}: take at least 1")

    def error(self, eps, x_t, sigma, key):
        """Returns the estimate `[B]` along directions drawn from `key`."""
        draw = lookup(PROJECTIONS, self.projections, "distribution of projections")
        shape = (self.num_projections, len(x_t), math.prod(x_t.shape[1:]))
        return self.along(eps, x_t, sigma, draw(key, shape, x_t.dtype))

    def along(self, eps, x_t, sigma, v):
        """Returns the estimate `[B]` along given directions v `[M, B, D]`, averaged over the M directions."""
        value, products = derivatives(eps, x_t, v)
        squared = value if self.variance_reduced else jnp.sum(v * value, axis=-1, keepdims=True)
        curvature = jnp.sum(v * products, axis=-1)
        return jnp.mean(jnp.sum(squared**2, axis=-1) - 2 * sigma * curvature, axis=0)
