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

        def angle(log_snr):
            """By sin² angle = sin² start + cos² start sigma², cos angle = cos start alpha, so that neither cancels."""
            xp = namespace(log_snr)
            variance, signal = (xp.exp(-xp.logaddexp(0.0, value)) for value in (log_snr, -log_snr))
            sine = xp.sqrt(np.sin(start) ** 2 + np.cos(start) ** 2 * variance)
            return xp.arctan2(sine, np.cos(start) * xp.sqrt(signal))

        rise = float(angle(np.float64(self.log_snr_min))) - start
        short = np.pi / 2 - start - rise

        def scales(t):
            xp, turned = namespace(t), rise * t
            alpha = xp.sin(short + rise * (1 - t)) / np.cos(start)  # cos(start + turned), small at the end
            # 1 - cos² b / cos² a = sin(b - a) sin(b + a) / cos² a.
            sigma = xp.sqrt(xp.sin(turned) * xp.sin(turned + 2 * start)) / np.cos(start)
            return alpha, sigma, 2 * (xp.log(alpha) - xp.log(sigma))

        def slopes(t):
            xp, turned = namespace(t), rise * t
            log_alpha = -rise * xp.tan(start + turned)
            variance = xp.sin(turned) * xp.sin(turned + 2 * start) / np.cos(start) ** 2
            return log_alpha, 2 * log_alpha / variance

        def inverse(log_snr):
            return (angle(log_snr) - start) / rise

        return Continuum(self.num_steps, self.t_min, scales, slopes, inverse)

    @property
    def prior_sigma(self):
        return 1.0

    @property
    def continuous(self):
        return self

    def scales(self, log_snr):
        return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
