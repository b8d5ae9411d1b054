"""Chains: processes whose noise levels stand in a table, as those of DDPM and NCSN do."""

import abc

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import Level, Perturbation
from unified_diffusion.perturbations.spacings import spaced


class Chain(Perturbation):
    """A process over the integer levels t = 0 … num_steps, given by a table of them.

    The table is built in float64 and read in float32. A chain of one's own defines `table` (as a cached property),
    `num_steps`, `prior_sigma`, `scales` and `continuous`.
    """

    @property
    @abc.abstractmethod
    def table(self) -> Level:
        """The levels t = 0 … num_steps as one `Level` of float64 arrays `[num_steps + 1]`.

        alpha is 1, sigma is 0 and the log-SNR is infinite at t = 0; the log-SNR falls strictly.
        """

    def at(self, t):
        index = self._index(t)
        alpha, sigma, log_snr = (jnp.asarray(column, jnp.float32)[index] for column in self.table[1:4])
        return Level(t, alpha, sigma, log_snr, self.noise_label(index))

    def exact(self, t):
        alpha, sigma, log_snr = (column[t] for column in self.table[1:4])
        return Level(t, alpha, sigma, log_snr, np.asarray(self.noise_label(t)))

    def log_alpha_change(self, s, t):
        return self._change(np.log(self.table.alpha), s, t)

    def log_snr_change(self, s, t):
        return self._change(self.table.log_snr, s, t)

    def log_snr_slope(self, t):
        if self.num_steps == 1:
            raise UserError("a single noise level has no slope of its log-SNR: take at least 2 levels")
        slopes = np.concatenate([[-np.inf], np.gradient(self.table.log_snr[1:])])
        return jnp.asarray(slopes, jnp.float32)[self._index(t)]

    def log_alpha_slope(self, t):
        raise UserError("a chain has no drift and no diffusion: take those of its limit, perturbation.continuous")

    def diffusion(self, t):
        raise UserError("a chain has no drift and no diffusion: take those of its limit, perturbation.continuous")

    @property
    def times(self):
        return np.arange(1, self.num_steps + 1, dtype=np.int32)

    @property
    def level_width(self):
        return 1.0

    def below(self, t):
        return t - 1

    def nearest(self, t):
        return jnp.rint(t).astype(jnp.int32)

    def level_number(self, t):
        return t

    def time_at(self, quantile):
        return jnp.minimum(1 + (quantile * self.num_steps).astype(jnp.int32), self.num_steps)

    def draw_times(self, key, num):
        return jax.random.randint(key, (num,), 1, self.num_steps + 1)

    def time_of(self, log_snr):
        falling = self.table.log_snr[:0:-1]
        if not isinstance(log_snr, jax.Array):
            return np.interp(log_snr, falling, self.times[::-1])
        times = jnp.arange(self.num_steps, 0, -1, dtype=jnp.float32)
        return jnp.interp(log_snr, jnp.asarray(falling, jnp.float32), times)

    def noise_label(self, t):
        return t - 1

    def label_log_snr(self, noise_label):
        """The log-SNR at a fractional label, by straight lines between the levels: the inverse of `time_of`."""
        times = jnp.arange(1, self.num_steps + 1, dtype=jnp.float32)
        return jnp.interp(jnp.asarray(noise_label) + 1, times, jnp.asarray(self.table.log_snr[1:], jnp.float32))

    def timesteps(self, num_steps, spacing="uniform"):
        if not 1 <= num_steps <= self.num_steps:
            raise UserError(
                f"num_steps = {num_steps} sampling steps on a chain of {self.num_steps} noise levels: "
                f"take 1 to {self.num_steps}"
            )
        times = np.rint(spaced(self, num_steps, spacing)).astype(np.int32)
        floor = np.arange(num_steps, -1, -1, dtype=np.int32)
        times = np.maximum.accumulate((times - floor)[::-1])[::-1] + floor  # up, off the levels already taken below
        return np.minimum(times, self.num_steps - floor[::-1])

    def _change(self, table, s, t):
        """The difference table[t] - table[s] to float32 precision.

        Each entry is split into a float32 number and the rest that this number rounds off.
        """
        high = table.astype(np.float32)
        finite = np.isfinite(high)
        low = np.where(finite, table - np.where(finite, high, 0), 0)
        first, last = self._index(s), self._index(t)
        high, low = (jnp.asarray(part, jnp.float32) for part in (high, low))
        return (high[last] - high[first]) + (low[last] - low[first])

    def _index(self, t):
        """The index of the table at t.

        Raises:
            TypeError: t is no integer.
            IndexError: t is known, and is no level; JAX would clamp it without a word.
        """
        if not jnp.issubdtype(jnp.result_type(t), jnp.integer):
            raise TypeError(f"a discrete perturbation takes an integer t in 0 … {self.num_steps}, not {t!r}")
        if not isinstance(t, jax.Array) and np.size(t) and (np.min(t) < 0 or np.max(t) > self.num_steps):
            raise IndexError(f"t = {t} is outside 0 … {self.num_steps}")
        return jnp.asarray(t)
