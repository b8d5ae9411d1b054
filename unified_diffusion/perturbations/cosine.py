"""The cosine process in continuous time."""

import dataclasses
import functools

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import namespace, variance_preserving
from unified_diffusion.perturbations.continuous import Continuous


@dataclasses.dataclass(frozen=True)
class Cosine(Continuous):
    """The limit of iDDPM's cosine chain: alpha = cos(angle) / cos(angle at 0) and alpha² + sigma² = 1.

    Nichol & Dhariwal 2021, eq. 17. The angle rises linearly from offset / (1 + offset) π/2 to the angle where the
    log-SNR is `log_snr_min`, just below the π/2 at which nothing would be left of the data. The chain stays below π/2
    by clipping its betas.

    Args:
        num_steps: the number of evenly spaced levels that stand for the process where levels are counted.
        offset: the s of the paper, which keeps the noise of the first levels from being too small.
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
        super().__post_init__()

    @property
    def prior_sigma(self):
        return 1.0

    def path(self, t):
        xp = namespace(t)
        return xp.sin(self._left(t)) / np.cos(self._start), xp.sqrt(self._variance(t)) / np.cos(self._start)

    def rates(self, t):
        xp, (rise, _) = namespace(t), self._angles
        slope = -rise * xp.sin(self._start + rise * t) / xp.sin(self._left(t))  # -rise tan(angle), exact at either end
        return slope, -2 * slope

    def change(self, s, t):
        xp, (rise, _) = namespace(s, t), self._angles
        turned = rise * (t - s)
        fallen = 2 * xp.cos((self._left(s) + self._left(t)) / 2) * xp.sin(turned / 2) / xp.sin(self._left(t))
        risen = xp.sin(turned) * xp.sin(rise * (s + t) + 2 * self._start) / self._variance(s)
        return -xp.log1p(fallen), -2 * xp.log1p(fallen) - xp.log1p(risen)

    def inverse(self, log_snr):
        return (namespace(log_snr).arctan2(*self._sides(log_snr)) - self._start) / self._angles[0]

    def scales(self, log_snr):
        return variance_preserving(log_snr)

    @property
    def _start(self):
        """The angle at t = 0."""
        return self.offset / (1 + self.offset) * np.pi / 2

    @functools.cached_property
    def _angles(self):
        """The rise of the angle over all t, and the angle that is missing to π/2 at t = 1."""
        sine, cosine = self._sides(np.float64(self.log_snr_min))
        return np.arctan2(sine, cosine) - self._start, np.arctan2(cosine, sine)

    def _sides(self, log_snr):
        """The sine and the cosine of the angle: sin² is sin² start + cos² start sigma², a sum without cancellation."""
        alpha, sigma = variance_preserving(log_snr)
        xp, start = namespace(log_snr), self._start
        return xp.sqrt(np.sin(start) ** 2 + np.cos(start) ** 2 * sigma**2), np.cos(start) * alpha

    def _left(self, t):
        """The angle that is missing to π/2 at t.

        Its sine is the cosine of the angle, which near t = 1 would lose its digits if taken from the rounded angle.
        """
        rise, short = self._angles
        return short + rise * (1 - t)

    def _variance(self, t):
        """The value of cos² start sigma², computed as cos² a - cos² b = sin(b - a) sin(b + a)."""
        xp, turned = namespace(t), self._angles[0] * t
        return xp.sin(turned) * xp.sin(turned + 2 * self._start)
