"""Processes in continuous time, whose noise levels are functions of t in [0, 1]."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import Level, Perturbation, namespace
from unified_diffusion.perturbations.spacings import spaced

# Gauss and Legendre's nodes and weights on [0, 1]: exact for polynomials up to degree 11.
_NODES, _WEIGHTS = ((x + 1) / 2 if i == 0 else x / 2 for i, x in enumerate(np.polynomial.legendre.leggauss(6)))


class Continuous(Perturbation):
    """A process over t in [0, 1], given by `path`: the functions alpha(t) and sigma(t).

    A process of one's own needs nothing else: rates come from automatic differentiation, and the inverse of the log-SNR
    from bisection. A closed form, where there is one, overrides `path_log_snr`, `rates`, `change` or `inverse`.

        @dataclasses.dataclass(frozen=True)
        class Circle(Continuous):
            end: float = 1.5

            def path(self, t):
                return jnp.cos(self.end * t), jnp.sin(self.end * t)

    These five functions are called with float64 NumPy arrays where the times are known before the program runs, and
    with float32 JAX arrays inside the program. `jax.numpy` serves for both; `xp = namespace(t)` is faster for NumPy.

    Attributes:
        num_steps: the number of evenly spaced levels t_min … 1 that stand for the process where levels are counted.
        t_min: the first of these levels. Data at t = 0 are clean, so a step to 0 gives x0_hat.
    """

    num_steps: int = 1000
    t_min: float = 1e-3

    def __post_init__(self):
        if not 0 < self.t_min < 1:
            raise UserError(f"t_min = {self.t_min}: the first noise level lies between 0 and 1")
        if self.num_steps < 2:
            raise UserError(f"num_steps = {self.num_steps}: take at least 2 levels of a continuous process")

    # The formulas of a process.

    @abc.abstractmethod
    def path(self, t) -> tuple[Any, Any]:
        """Gives (alpha, sigma) at t, each shaped like t; (1, 0) at t = 0. The ratio sigma / alpha rises strictly."""

    def path_log_snr(self, t):
        """The log-SNR lambda(t) = 2 log(alpha / sigma)."""
        alpha, sigma = self.path(t)
        xp = namespace(alpha, sigma)
        return 2 * (xp.log(alpha) - xp.log(sigma))

    def rates(self, t):
        """Gives (dlog alpha/dt, g²) of dx = x dlog(alpha)/dt dt + g dw; g² = dsigma²/dt - 2 sigma² dlog(alpha)/dt.

        Song et al. 2021, eq. 5; Kingma et al. 2021, appendix A.
        """
        alpha, sigma = self.path(t)
        slope = _derivative(lambda t: self.path(t)[0], t) / alpha
        return slope, 2 * sigma * (_derivative(lambda t: self.path(t)[1], t) - sigma * slope)

    def change(self, s, t):
        """Gives (log alpha(t) - log alpha(s), lambda(t) - lambda(s)) for s < t; the second is -inf for s = 0.

        Over a short step the second is the integral of dlambda/dt, since the difference of two close values that were
        rounded would keep few of their digits.
        """
        xp = namespace(s, t)
        log_alpha = xp.log(self.path(t)[0]) - xp.log(self.path(s)[0])
        difference = self.path_log_snr(t) - self.path_log_snr(s)
        short = (difference > -0.5) & (s > 0)
        start, width = xp.where(short, s, 0.5), xp.where(short, t - s, 0.0)
        slopes = (w * _derivative(self.path_log_snr, start + x * width) for x, w in zip(_NODES, _WEIGHTS, strict=True))
        return log_alpha, xp.where(short, width * sum(slopes), difference)

    def inverse(self, log_snr):
        """The t of a log-SNR, by bisection between t_min and 1."""
        if not isinstance(log_snr, jax.Array):
            log_snr = np.asarray(log_snr, np.float64)
        xp = namespace(log_snr)
        low = xp.zeros_like(log_snr) + xp.asarray(self.t_min, log_snr.dtype)
        high = xp.ones_like(log_snr)
        for _ in range(30 if xp is jnp else 60):  # as many halvings as the precision has bits, and some more
            middle = (low + high) / 2
            noisier = self.path_log_snr(middle) < log_snr
            low, high = xp.where(noisier, low, middle), xp.where(noisier, middle, high)
        return (low + high) / 2

    # The protocol.

    def at(self, t):
        alpha, sigma, log_snr, number = self._read(self._columns, t)
        return Level(t, alpha, sigma, log_snr, number)

    def exact(self, t):
        t = np.asarray(t, np.float64)
        alpha, sigma, log_snr, number = _in_float64(lambda: self._columns(t))
        return Level(t, alpha, sigma, log_snr, number)

    def log_alpha_change(self, s, t):
        return self._read(self.change, s, t)[0]

    def log_snr_change(self, s, t):
        return self._read(self.change, s, t)[1]

    def log_snr_slope(self, t):
        return self._read(lambda t: (-self.rates(t)[1] / self.path(t)[1] ** 2,), t)[0]

    def log_alpha_slope(self, t):
        return self._read(self.rates, t)[0]

    def diffusion(self, t):
        return self._read(lambda t: (namespace(t).sqrt(self.rates(t)[1]),), t)[0]

    def scales(self, log_snr):
        return self.path(self.inverse(log_snr))

    @property
    def prior_sigma(self):
        return float(self.exact(1.0).sigma)

    @property
    def continuous(self):
        return self

    @property
    def times(self):
        return np.linspace(self.t_min, 1, self.num_steps)

    @property
    def level_width(self):
        return (1 - self.t_min) / (self.num_steps - 1)

    def below(self, t):
        xp, lower = namespace(t), t - self.level_width
        # The second level goes to the first even where rounding moves it, by up to a thousandth of a step.
        return xp.where(lower < self.t_min - self.level_width / 1000, 0.0, xp.maximum(lower, self.t_min))

    def nearest(self, t):
        return t

    def level_number(self, t):
        xp = namespace(t)
        return xp.clip(xp.rint((t - self.t_min) / self.level_width) + 1, 1, self.num_steps).astype(np.int32)

    def time_at(self, quantile):
        return self.t_min + (1 - self.t_min) * quantile

    def draw_times(self, key, num):
        return self.time_at(jax.random.uniform(key, (num,)))

    def time_of(self, log_snr):
        if isinstance(log_snr, jax.Array):
            return jnp.clip(self.inverse(log_snr), self.t_min, 1)
        log_snr = np.asarray(log_snr, np.float64)
        return np.clip(_in_float64(lambda: (self.inverse(log_snr),))[0], self.t_min, 1)

    def noise_label(self, t):
        return (t - self.t_min) / self.level_width

    def label_log_snr(self, noise_label):
        return self.log_snr(self.t_min + self.level_width * jnp.asarray(noise_label))

    def timesteps(self, num_steps, spacing="uniform"):
        if num_steps < 1:
            raise UserError(f"num_steps = {num_steps} sampling steps: take at least 1")
        times = spaced(self, num_steps, spacing)
        # Many steps, or dense ones near the data, are drawn together so that the last one above 0 is t_min.
        if times[-2] < self.t_min:
            times[:-1] = 1 - (1 - times[:-1]) * (1 - self.t_min) / (1 - times[-2])
            times[-2] = self.t_min
        return times

    def _columns(self, t):
        """The fields (alpha, sigma, log-SNR, number) of the levels at t."""
        alpha, sigma = self.path(t)
        return alpha, sigma, self.path_log_snr(t), self.noise_label(t)

    def _read(self, formulas, *times):
        """Gives the values of `formulas` at these times in float32; an integer is refused, since it counts levels."""
        for t in times:
            if not jnp.issubdtype(jnp.result_type(t), jnp.floating) and (isinstance(t, Tracer) or np.any(t)):
                raise TypeError(f"a continuous perturbation takes a float t in 0 … 1, not {t!r}")
            if not isinstance(t, jax.Array) and np.size(t) and not (np.min(t) >= 0 and np.max(t) <= 1):
                raise IndexError(f"t = {t} is outside 0 … 1")
        if namespace(*times) is np:
            times = [np.asarray(t, np.float64) for t in times]
            return tuple(jnp.asarray(value, jnp.float32) for value in _in_float64(lambda: formulas(*times)))
        with np.errstate(divide="ignore"):
            return tuple(jnp.asarray(value, jnp.float32) for value in formulas(*times))


def _in_float64(formulas):
    """The values of formulas of known times as float64 NumPy arrays; the formulas may be written in `jax.numpy`."""
    with jax.enable_x64(True), jax.ensure_compile_time_eval(), np.errstate(divide="ignore", invalid="ignore"):
        return tuple(np.asarray(value, np.float64) for value in formulas())


def _derivative(function, t):
    """The derivative dfunction/dt at each t, by automatic differentiation, in the precision of t."""
    tangent = jax.jvp(function, (jnp.asarray(t),), (jnp.ones_like(t),))[1]
    return tangent if isinstance(t, jax.Array) else np.asarray(tangent)
