"""The levels of a chain joined to a process in continuous time, where no closed form of the process is known."""

import dataclasses
import functools

import numpy as np

from unified_diffusion.perturbations.base import namespace, variance_exploding, variance_preserving
from unified_diffusion.perturbations.continuous import Continuous


@dataclasses.dataclass(frozen=True)
class Interpolated(Continuous):
    """The log-SNR of the levels of a chain, joined by straight lines over t = level / num_steps.

    Below the first level the log-SNR stays on the first line, and jumps at t = 0, where data are clean.

    Args:
        log_snrs: the log-SNR of the chain at its levels 1 … num_steps, two at least.
        exploding: True for alpha = 1, as in NCSN; otherwise alpha² + sigma² = 1, as in DDPM.
    """

    log_snrs: tuple[float, ...]
    exploding: bool

    @property
    def num_steps(self):
        return len(self.log_snrs)

    @property
    def t_min(self):
        return 1 / len(self.log_snrs)

    @property
    def prior_sigma(self):
        return float(np.exp(-self.log_snrs[-1] / 2)) if self.exploding else 1.0

    def path(self, t):
        return self.scales(self.path_log_snr(t))

    def scales(self, log_snr):
        return variance_exploding(log_snr) if self.exploding else variance_preserving(log_snr)

    def path_log_snr(self, t):
        xp = namespace(t)
        joined = xp.interp(t, xp.asarray(self._knots), xp.asarray(self._values))
        lower = self._values[0] + (t - self._knots[0]) * self._steepness[0]
        return xp.where(t == 0, xp.inf, xp.where(t < self._knots[0], lower, joined))

    def rates(self, t):
        xp, variance = namespace(t), self.path(t)[1] ** 2
        slope = xp.asarray(self._steepness)[self._piece(t)]
        return (xp.zeros_like(slope) if self.exploding else variance * slope / 2), -variance * slope

    def change(self, s, t):
        xp, first, last = namespace(s, t), self._piece(s), self._piece(t)
        slope = xp.asarray(self._steepness)
        high, low = (part[last] - part[first + 1] for part in map(xp.asarray, _split(self._values)))
        # The change up to the next knot, on to the last knot before t, and from there to t: all of one sign.
        by_knots = (slope[last] * self._past(t, last) - slope[first] * self._past(s, first + 1)) + (low + high)
        log_snr = xp.where(first == last, slope[last] * (t - s), by_knots)
        log_snr = xp.where(s == 0, -xp.inf, log_snr)
        if self.exploding:
            return xp.zeros_like(log_snr), log_snr
        return xp.log(self.path(t)[0]) - xp.log(self.path(s)[0]), log_snr

    def inverse(self, log_snr):
        xp = namespace(log_snr)
        return xp.interp(log_snr, xp.asarray(self._values[::-1]), xp.asarray(self._knots[::-1]))

    @functools.cached_property
    def _values(self):
        return np.asarray(self.log_snrs)

    @functools.cached_property
    def _knots(self):
        return np.arange(1, self.num_steps + 1) / self.num_steps

    @functools.cached_property
    def _steepness(self):
        return np.diff(self._values) * self.num_steps

    def _piece(self, t):
        """The number of the line that t is on."""
        xp = namespace(t)
        found = xp.searchsorted(xp.asarray(self._knots), t, side="right") - 1
        return xp.clip(found, 0, self.num_steps - 2)

    def _past(self, t, number):
        """The difference of t and the knot of this number, which float32 alone would round."""
        high, low = (namespace(t).asarray(part)[number] for part in _split(self._knots))
        return (t - high) - low


def _split(table):
    """Splits float64 numbers into (high, low): float32 numbers, and the rests that these round off."""
    high = np.asarray(table, np.float32).astype(np.float64)
    return high, table - high
