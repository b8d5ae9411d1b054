"""The variance-preserving process in continuous time, and its sub-variance-preserving relative."""

import dataclasses
import functools

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import namespace, variance_preserving
from unified_diffusion.perturbations.continuous import Continuous


@dataclasses.dataclass(frozen=True)
class LinearBeta:
    """A linearly rising beta(t), and its integral B(t) from 0. Song et al. 2021, eq. 32 and appendix C."""

    beta_min: float
    beta_max: float

    def __post_init__(self):
        if not (0 < self.beta_min < np.inf and 0 < self.beta_max < np.inf):
            raise UserError(f"beta_min = {self.beta_min} and beta_max = {self.beta_max}: both must be above 0")

    def __call__(self, t):
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, t):
        return t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)

    def integral_between(self, s, t):
        return (t - s) * (self.beta_min + (s + t) * (self.beta_max - self.beta_min) / 2)

    def log_variance_change(self, s, t):
        """The logarithm of (1 - exp(-B(t))) / (1 - exp(-B(s))) for s < t, computed without cancellation."""
        xp = namespace(s, t)
        return xp.log1p(-xp.expm1(-self.integral_between(s, t)) / xp.expm1(self.integral(s)))

    def time_at(self, integral):
        """The t at which B(t) is `integral`: the root of a quadratic, in the form that does not cancel."""
        xp, rise = namespace(integral), self.beta_max - self.beta_min
        # The integral of a falling beta has a largest value, at a t > 1; an integral above it gets a t > 1, too.
        root = xp.sqrt(xp.maximum(self.beta_min**2 + 2 * rise * integral, 0))
        return 2 * integral / (self.beta_min + root)


@dataclasses.dataclass(frozen=True)
class VP(Continuous):
    """The limit of DDPM's chain: dx = -½ beta(t) x dt + sqrt(beta(t)) dw, so alpha² + sigma² = 1.

    Song et al. 2021, eq. 11. alpha = exp(-B / 2), sigma² = 1 - exp(-B), with B the integral of beta; t is in [0, 1].

    Args:
        num_steps: the number of evenly spaced levels that stand for the process where levels are counted.
        beta_min: beta(0).
        beta_max: beta(1).
        t_min: the first level above 0, the last that a sampler visits before t = 0.

    Raises:
        UserError: fewer than two levels, or a number out of range.
    """

    num_steps: int = 1000
    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        _ = self._beta  # made here, so that mistakes show at once

    @functools.cached_property
    def _beta(self):
        return LinearBeta(self.beta_min, self.beta_max)

    @property
    def prior_sigma(self):
        return 1.0

    def path(self, t):
        xp, integral = namespace(t), self._beta.integral(t)
        return xp.exp(-integral / 2), xp.sqrt(-xp.expm1(-integral))

    def path_log_snr(self, t):
        xp, integral = namespace(t), self._beta.integral(t)
        return -integral - xp.log(-xp.expm1(-integral))

    def rates(self, t):
        return -self._beta(t) / 2, self._beta(t)

    def change(self, s, t):
        integral = self._beta.integral_between(s, t)
        return -integral / 2, -integral - self._beta.log_variance_change(s, t)

    def inverse(self, log_snr):
        return self._beta.time_at(namespace(log_snr).logaddexp(0.0, -log_snr))

    def scales(self, log_snr):
        return variance_preserving(log_snr)


@dataclasses.dataclass(frozen=True)
class SubVP(Continuous):
    """The sub-variance-preserving process: dx = -½ beta x dt + sqrt(beta (1 - exp(-2 B))) dw.

    Song et al. 2021, eq. 13. alpha is as in `VP`, and sigma = 1 - alpha².

    Args:
        num_steps, beta_min, beta_max, t_min: as in `VP`.

    Raises:
        UserError: as `VP`.
    """

    num_steps: int = 1000
    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        _ = self._beta  # made here, so that mistakes show at once

    @functools.cached_property
    def _beta(self):
        return LinearBeta(self.beta_min, self.beta_max)

    @property
    def prior_sigma(self):
        return 1.0

    def path(self, t):
        xp, integral = namespace(t), self._beta.integral(t)
        return xp.exp(-integral / 2), -xp.expm1(-integral)

    def path_log_snr(self, t):
        xp, integral = namespace(t), self._beta.integral(t)
        return -integral - 2 * xp.log(-xp.expm1(-integral))

    def rates(self, t):
        beta = self._beta(t)
        return -beta / 2, -beta * namespace(t).expm1(-2 * self._beta.integral(t))

    def change(self, s, t):
        integral = self._beta.integral_between(s, t)
        return -integral / 2, -integral - 2 * self._beta.log_variance_change(s, t)

    def inverse(self, log_snr):
        # alpha / (1 - alpha²) = r, so 1 / alpha = (1 / r + sqrt(1 / r² + 4)) / 2 = exp(asinh(1 / (2 r))).
        xp = namespace(log_snr)
        return self._beta.time_at(2 * xp.arcsinh(xp.exp(-log_snr / 2) / 2))

    def scales(self, log_snr):
        xp = namespace(log_snr)
        alpha = xp.exp(-xp.arcsinh(xp.exp(-log_snr / 2) / 2))
        return alpha, alpha * xp.exp(-log_snr / 2)
