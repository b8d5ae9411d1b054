"""The variance-exploding process in continuous time."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import Perturbation
from unified_diffusion.perturbations.continuum import Continuum, namespace


@dataclasses.dataclass(frozen=True)
class VE(Perturbation):
    """dx = sqrt(d sigma² / dt) dw with sigma = sigma_min (sigma_max / sigma_min)^t: NCSN's limit.

    Song et al. 2021, eq. 9 and 30. As there, sigma jumps at t = 0, where data are clean: sigma(0) = 0, and sigma_min
    just after.

    Args:
        num_steps: the evenly spaced levels that stand for it where levels are counted.
        sigma_min: the smallest noise scale, in data units of [-1, 1]; published ones are for [0, 1], so half as large.
        sigma_max: the largest noise scale, in data units; the prior's too.
        t_min: the first level above 0, the last that a sampler visits before t = 0.

    Raises:
        UserError: fewer than two levels, or a number out of range.
    """

    num_steps: int = 1000
    sigma_min: float = 0.02
    sigma_max: float = 100.0
    t_min: float = 1e-5

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max < np.inf:
            raise UserError(f"VE needs 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}")
        _ = self.levels  # made here, so that mistakes show at once

    @functools.cached_property
    def levels(self):
        first, rise = np.log(self.sigma_min), np.log(self.sigma_max / self.sigma_min)

        def scales(t):
            xp = namespace(t)
            log_sigma = xp.where(t == 0, -xp.inf, first + rise * t)
            return xp.ones_like(log_sigma), xp.exp(log_sigma), -2 * log_sigma

        def rates(t):
            xp = namespace(t)
            return xp.zeros_like(t), 2 * rise * xp.exp(2 * (first + rise * t))

        def change(s, t):
            xp = namespace(s, t)
            return xp.where(s == 0, -xp.inf, -2 * rise * (t - s))

        def inverse(log_snr):
            return (-log_snr / 2 - first) / rise

        return Continuum(self.num_steps, self.t_min, scales, rates, change, inverse)

    @property
    def prior_sigma(self):
        return float(self.sigma_max)

    @property
    def continuous(self):
        return self

    def scales(self, log_snr):
        return jnp.ones_like(log_snr), jnp.exp(-log_snr / 2)
