"""A finite ladder of noise levels: what DDPM's chain and NCSN's scales have in common."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.spacings import spaced


@dataclasses.dataclass(frozen=True, eq=False)
class Ladder:
    """Tables over t = 0 … num_steps: built in float64, read in float32.

    Args:
        alphas: signal scales `[num_steps + 1]`, 1 at t = 0.
        sigmas: noise scales `[num_steps + 1]`, 0 at t = 0.
        log_snrs: log(alpha² / sigma²) `[num_steps + 1]`, strictly decreasing from +inf.
    """

    alphas: np.ndarray
    sigmas: np.ndarray
    log_snrs: np.ndarray

    @property
    def num_steps(self):
        return len(self.alphas) - 1

    @property
    def width(self):
        return 1.0

    @property
    def times(self):
        """1 … num_steps."""
        return np.arange(1, self.num_steps + 1, dtype=np.int32)

    def exact(self, t):
        """(alpha, sigma, log-SNR) at known t, float64."""
        return self.alphas[t], self.sigmas[t], self.log_snrs[t]

    def alpha(self, t):
        return self._read(self.alphas, t)

    def sigma(self, t):
        return self._read(self.sigmas, t)

    def log_snr(self, t):
        return self._read(self.log_snrs, t)

    def log_snr_change(self, s, t):
        """log_snr(t) - log_snr(s) to float32 precision: each is read as a float32 and what it rounded off."""
        high = self.log_snrs.astype(np.float32)
        low = np.concatenate([[0.0], self.log_snrs[1:] - high[1:]])
        return (self._read(high, t) - self._read(high, s)) + (self._read(low, t) - self._read(low, s))

    def log_snr_slope(self, t):
        """d log_snr / dt: half the change from the level below to the one above; at an end, to its neighbour."""
        if self.num_steps == 1:
            raise UserError("a single noise level has no slope of its log-SNR: take at least 2 levels")
        return self._read(np.concatenate([[-np.inf], np.gradient(self.log_snrs[1:])]), t)

    def log_alpha_slope(self, t):
        raise UserError("a chain has no drift and no diffusion: take those of its limit, perturbation.continuous")

    diffusion = log_alpha_slope

    def below(self, t):
        """One level down."""
        return t - 1

    def number(self, t):
        """Which level it is."""
        return t

    def time_at(self, quantile):
        """The level at a quantile in [0, 1)."""
        return jnp.minimum(1 + (quantile * self.num_steps).astype(jnp.int32), self.num_steps)

    def draw_times(self, key, num):
        """Independent levels, each as likely."""
        return jax.random.randint(key, (num,), 1, self.num_steps + 1)

    def time_of(self, log_snr):
        """The fractional t at a log-SNR, interpolated between levels; 1 or num_steps outside of them."""
        if not isinstance(log_snr, jax.Array):
            return np.interp(log_snr, self.log_snrs[:0:-1], self.times[::-1])
        times = jnp.arange(self.num_steps, 0, -1, dtype=jnp.float32)
        return jnp.interp(log_snr, jnp.asarray(self.log_snrs[:0:-1], jnp.float32), times)

    def nearest(self, t):
        """The level nearest to a fractional t."""
        return jnp.rint(t).astype(jnp.int32)

    def label(self, t):
        """t counted from 0."""
        return t - 1

    def label_log_snr(self, label):
        """The log-SNR at a fractional label: the inverse of `time_of`, interpolated."""
        times = jnp.arange(1, self.num_steps + 1, dtype=jnp.float32)
        return jnp.interp(jnp.asarray(label) + 1, times, jnp.asarray(self.log_snrs[1:], jnp.float32))

    def timesteps(self, num_steps, spacing):
        """Integer times `[num_steps + 1]`, falling from the last level to 0: the nearest ones, each once."""
        if not 1 <= num_steps <= self.num_steps:
            raise UserError(
                f"num_steps = {num_steps} sampling steps on a ladder of {self.num_steps} noise levels: "
                f"take 1 to {self.num_steps}"
            )
        times = np.rint(spaced(self, num_steps, spacing)).astype(np.int32)
        floor = np.arange(num_steps, -1, -1, dtype=np.int32)
        times = np.maximum.accumulate((times - floor)[::-1])[::-1] + floor  # up, off the levels already taken below
        return np.minimum(times, self.num_steps - floor[::-1])

    def _read(self, table, t):
        """`table[t]` in float32, in the shape of `t`; a t known to be no level is refused: JAX would clamp it."""
        if not jnp.issubdtype(jnp.result_type(t), jnp.integer):
            raise TypeError(f"a discrete perturbation takes an integer t in 0 … {self.num_steps}, not {t!r}")
        if not isinstance(t, jax.Array) and np.size(t) and (np.min(t) < 0 or np.max(t) > self.num_steps):
            raise IndexError(f"t = {t} is outside 0 … {self.num_steps}")
        return jnp.asarray(table, jnp.float32)[jnp.asarray(t)]
