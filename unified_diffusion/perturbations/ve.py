"""The variance-exploding process in continuous time."""

import dataclasses

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import namespace, variance_exploding
from unified_diffusion.perturbations.continuous import Continuous


@dataclasses.dataclass(frozen=True)
class VE(Continuous):
    """The limit of NCSN's chain: dx = sqrt(d sigma² / dt) dw with sigma = sigma_min (sigma_max / sigma_min)^t.

    Song et al. 2021, eq. 9 and 30. As in the paper, sigma jumps at t = 0, where data are clean: sigma(0) = 0, and sigma
    is sigma_min just after.

    Args:
        num_steps: the number of evenly spaced levels that stand for the process where levels are counted.
        sigma_min: the smallest noise scale, in data units of [-1, 1]; published scales are for [0, 1], and half as
            large.
        sigma_max: the largest noise scale, in data units, which is also that of the prior.
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
        super().__post_init__()

    @property
    def _first(self):
        return np.log(self.sigma_min)

    @property
    def _rise(self):
        return np.log(self.sigma_max / self.sigma_min)

    @property
    def prior_sigma(self):
        return float(self.sigma_max)

    def path(self, t):
        return self.scales(self.path_log_snr(t))

    def scales(self, log_snr):
        return variance_exploding(log_snr)

    def path_log_snr(self, t):
        xp = namespace(t)
        return -2 * xp.where(t == 0, -xp.inf, self._first + self._rise * t)

    def rates(self, t):
        xp = namespace(t)
        return xp.zeros_like(t), 2 * self._rise * xp.exp(2 * (self._first + self._rise * t))

    def change(self, s, t):
        xp = namespace(s, t)
        log_snr = xp.where(s == 0, -xp.inf, -2 * self._rise * (t - s))
        return xp.zeros_like(log_snr), log_snr

    def inverse(self, log_snr):
        return (-log_snr / 2 - self._first) / self._rise
