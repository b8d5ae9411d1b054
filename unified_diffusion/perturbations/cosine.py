"""The cosine process in continuous time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import Perturbation
from unified_diffusion.perturbations.continuum import Continuum, namespace


@dataclasses.dataclass(frozen=True)
class Cosine(Perturbation):
    """alpha = cos(angle) / cos(angle at 0), alpha² + sigma² = 1: the limit of iDDPM's cosine chain.

    Nichol & Dhariwal 2021, eq. 17. The angle rises linearly from offset / (1 + offset) π/2 to where the log-SNR is
    `log_snr_min`: a hair before the π/2 at which nothing would be left of the data. The chain stops short of it by
    clipping its betas.

    Args:
        num_steps: the evenly spaced levels that stand for it where levels are counted.
        offset: s of the paper, which keeps the first levels' noise from being too small.
        log_snr_min: the log-SNR at t = 1.
        t_min: the first level above 0, the last that a sampler visits before t = 0.

    Raises:
        UserError: fewer than two levels, or a number out of range.
    """

    num_steps: int = 1000
    offset: float = 0.008
    log_snr_min: float = -15.0
    t_min: float = 1e-3

    def __post_init__(self):
        if not 0 <= self.offset < 1:
            raise UserError(f"Cosine offset = {self.offset}: it is at least 0 and below 1")
        if not -60 <= self.log_snr_min < 0:
            raise UserError(f"Cosine log_snr_min = {self.log_snr_min}: it lies between -60 and 0")
        _ = self.levels  # made here, so that mistakes show at once

    @functools.cached_property
    def levels(self):
        start = self.offset / (1 + self.offset) * np.pi / 2

        def sides(log_snr):
            """(sin, cos) of the angle: sin² is sin² start + cos² start sigma², so that neither cancels."""
            xp = namespace(log_snr)
            variance, signal = (xp.exp(-xp.logaddexp(0.0, value)) for value in (log_snr, -log_snr))
            return xp.sqrt(np.sin(start) ** 2 + np.cos(start) ** 2 * variance), np.cos(start) * xp.sqrt(signal)

        sine, cosine = sides(np.float64(self.log_snr_min))
        rise, short = np.arctan2(sine, cosine) - start, np.arctan2(cosine, sine)

        def left(t):
            """What the angle lacks of π/2, whose sine is its cosine: near t = 1 the angle itself is rounded too far."""
            return short + rise * (1 - t)

        def variance(t):
            """cos² start sigma²: cos² a - cos² b = sin(b - a) sin(b + a)."""
            xp, turned = namespace(t), rise * t
            return xp.sin(turned) * xp.sin(turned + 2 * start)

        def scales(t):
            xp = namespace(t)
            alpha, sigma = xp.sin(left(t)) / np.cos(start), xp.sqrt(variance(t)) / np.cos(start)
            return alpha, sigma, 2 * (xp.log(alpha) - xp.log(sigma))

        def rates(t):
            xp = namespace(t)
            slope = -rise * xp.sin(start + rise * t) / xp.sin(left(t))  # -rise tan(angle), exact at either end
            return slope, -2 * slope

        def change(s, t):
            xp, turned = namespace(s, t), rise * (t - s)
            fallen = 2 * xp.cos((left(s) + left(t)) / 2) * xp.sin(turned / 2) / xp.sin(left(t))
            risen = xp.sin(turned) * xp.sin(rise * (s + t) + 2 * start) / variance(s)
            return -2 * xp.log1p(fallen) - xp.log1p(risen)

        def inverse(log_snr):
            return (namespace(log_snr).arctan2(*sides(log_snr)) - start) / rise

        return Continuum(self.num_steps, self.t_min, scales, rates, change, inverse)

    @property
    def prior_sigma(self):
        return 1.0

    @property
    def continuous(self):
        return self

    def scales(self, log_snr):
        return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
