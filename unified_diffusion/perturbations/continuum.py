"""Noise levels over continuous time: what VP, sub-VP, VE and the cosine process have in common."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.spacings import spaced


def namespace(*values):
    """jax.numpy for JAX arrays, which are computed in float32; NumPy, in float64, for all that is known beforehand."""
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


@dataclasses.dataclass(frozen=True, eq=False)
class Continuum:
    """Functions over t in [0, 1], computed in float64 where t is known beforehand, and read in float32.

    It is asked what a `Ladder` is. Of the levels t_min … 1 it has `num_steps` evenly spaced ones, a `width` apart: the
    ladder that stands for it wherever levels are counted.

    Args:
        num_steps: how many levels those are.
        t_min: the first of them. Data at t = 0 are clean, so a step to 0 gives x0_hat.
        scales: t -> (alpha, sigma, log-SNR); (1, 0, inf) at t = 0.
        rates: t -> (d log alpha / dt, g²), of dx = x dlog(alpha)/dt dt + g dw.
        change: (s, t) -> log_snr(t) - log_snr(s) for s < t, without that subtraction's cancellation; -inf for s = 0.
        inverse: log-SNR -> t.
    """

    num_steps: int
    t_min: float
    scales: Callable
    rates: Callable
    change: Callable
    inverse: Callable

    def __post_init__(self):
        if not 0 < self.t_min < 1:
            raise UserError(f"t_min = {self.t_min}: the first noise level lies between 0 and 1")
        if self.num_steps < 2:
            raise UserError(f"num_steps = {self.num_steps}: take at least 2 levels of a continuous process")

    @property
    def width(self):
        return (1 - self.t_min) / (self.num_steps - 1)

    @property
    def times(self):
        """The levels that stand for it, rising, float64 `[num_steps]`."""
        return np.linspace(self.t_min, 1, self.num_steps)

    def exact(self, t):
        """(alpha, sigma, log-SNR) at known times, float64."""
        with np.errstate(divide="ignore"):
            return tuple(np.asarray(level, np.float64) for level in self.scales(np.asarray(t, np.float64)))

    def alpha(self, t):
        return self._read(self.scales, t)[0]

    def sigma(self, t):
        return self._read(self.scales, t)[1]

    def log_snr(self, t):
        return self._read(self.scales, t)[2]

    def log_snr_change(self, s, t):
        """log_snr(t) - log_snr(s) to float32 precision, of times taken at their word."""
        return self._read(lambda s, t: (self.change(s, t),), s, t)[0]

    def log_snr_slope(self, t):
        return self._read(lambda t: (-self.rates(t)[1] / self.scales(t)[1] ** 2,), t)[0]

    def log_alpha_slope(self, t):
        return self._read(self.rates, t)[0]

    def diffusion(self, t):
        return self._read(lambda t: (namespace(t).sqrt(self.rates(t)[1]),), t)[0]

    def below(self, t):
        """One of those levels down; 0 from the first one, and from between it and the second."""
        xp, lower = namespace(t), t - self.width
        # By a thousandth of a step the second level may be off, by rounding, and still go to the first.
        return xp.where(lower < self.t_min - self.width / 1000, 0.0, xp.maximum(lower, self.t_min))

    def number(self, t):
        """Which of those levels is nearest, 1 … num_steps."""
        xp = namespace(t)
        return xp.clip(xp.rint((t - self.t_min) / self.width) + 1, 1, self.num_steps).astype(np.int32)

    def time_at(self, quantile):
        """The time at a quantile in [0, 1) of the uniform distribution over t_min … 1."""
        return self.t_min + (1 - self.t_min) * quantile

    def draw_times(self, key, num):
        """Independent times of that distribution."""
        return self.time_at(jax.random.uniform(key, (num,)))

    def time_of(self, log_snr):
        """The t at a log-SNR; t_min or 1 beyond them."""
        xp = namespace(log_snr)
        return xp.clip(self.inverse(log_snr), self.t_min, 1)

    def nearest(self, t):
        """The level nearest to t: itself."""
        return t

    def label(self, t):
        """t in levels, counted from 0."""
        return (t - self.t_min) / self.width

    def label_log_snr(self, label):
        """The log-SNR that a label stands for."""
        return self.log_snr(self.t_min + self.width * jnp.asarray(label))

    def timesteps(self, num_steps, spacing):
        """Times `[num_steps + 1]`, float64, strictly decreasing from 1 to 0, of which only the last is below t_min."""
        if num_steps < 1:
            raise UserError(f"num_steps = {num_steps} sampling steps: take at least 1")
        times = spaced(self, num_steps, spacing)
        if times[-2] < self.t_min:  # many steps, or dense ones near the data: drawn together, so that they end there
            times[:-1] = 1 - (1 - times[:-1]) * (1 - self.t_min) / (1 - times[-2])
            times[-2] = self.t_min
        return times

    def _read(self, functions, *times):
        """What `functions` give at these times, in float32; an integer is refused, since it counts levels."""
        for t in times:
            if not jnp.issubdtype(jnp.result_type(t), jnp.floating) and (isinstance(t, jax.core.Tracer) or np.any(t)):
                raise TypeError(f"a continuous perturbation takes a float t in 0 … 1, not {t!r}")
            if not isinstance(t, jax.Array) and np.size(t) and not (np.min(t) >= 0 and np.max(t) <= 1):
                raise IndexError(f"t = {t} is outside 0 … 1")
        if namespace(*times) is np:
            times = [np.asarray(t, np.float64) for t in times]
        with np.errstate(divide="ignore"):
            return tuple(jnp.asarray(level, jnp.float32) for level in functions(*times))
