"""A chain's levels joined to a process in continuous time, where no closed form of it is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.perturbations.base import Perturbation
from unified_diffusion.perturbations.continuum import Continuum, namespace


def split(table):
    """float64 numbers as float32 ones and what these round off: (high, low), of which each fits into a float32."""
    high = np.asarray(table, np.float32).astype(np.float64)
    return high, table - high


@dataclasses.dataclass(frozen=True)
class Between(Perturbation):
    """The log-SNR of a chain's levels, joined by straight lines over t = level / num_steps.

    Below the first level it stays on the first line, and jumps at t = 0, where data are clean.

    Args:
        log_snrs: of the chain's levels 1 … num_steps, two at least.
        exploding: whether alpha = 1, as in NCSN; otherwise alpha² + sigma² = 1, as in DDPM.
    """

    log_snrs: tuple[float, ...]
    exploding: bool

    def __post_init__(self):
        _ = self.levels  # made here, so that mistakes show at once

    @property
    def num_steps(self):
        return len(self.log_snrs)

    @functools.cached_property
    def levels(self):
        values = np.asarray(self.log_snrs)
        knots = np.arange(1, len(values) + 1) / len(values)
        steepness = np.diff(values) * len(values)

        def log_snr(t):
            xp = namespace(t)
            joined = xp.interp(t, xp.asarray(knots), xp.asarray(values))
            lower = values[0] + (t - knots[0]) * steepness[0]
            return xp.where(t == 0, xp.inf, xp.where(t < knots[0], lower, joined))

        def scales(t):
            xp, level = namespace(t), log_snr(t)
            if self.exploding:
                return xp.ones_like(level), xp.exp(-level / 2), level
            return *(xp.exp(-xp.logaddexp(0.0, sign * level) / 2) for sign in (-1, 1)), level

        def piece(t):
            xp = namespace(t)
            return xp.clip(xp.searchsorted(xp.asarray(knots), t, side="right") - 1, 0, len(steepness) - 1)

        def rates(t):
            xp, variance = namespace(t), scales(t)[1] ** 2
            slope = xp.asarray(steepness)[piece(t)]
            return (xp.zeros_like(slope) if self.exploding else variance * slope / 2), -variance * slope

        def minus(t, number):
            """t less the knot of that number, which is no float32."""
            high, low = (namespace(t).asarray(part)[number] for part in split(knots))
            return (t - high) - low

        def change(s, t):
            xp, first, last = namespace(s, t), piece(s), piece(t)
            slope = xp.asarray(steepness)
            high, low = (part[last] - part[first + 1] for part in map(xp.asarray, split(values)))
            # To the next knot, on to the last one before t, and from there: all of one sign, so that none cancels.
            by_knots = (slope[last] * minus(t, last) - slope[first] * minus(s, first + 1)) + (low + high)
            on_the_line = slope[last] * (t - s)
            return xp.where(s == 0, -xp.inf, xp.where(first == last, on_the_line, by_knots))

        def inverse(log_snr):
            xp = namespace(log_snr)
            return xp.interp(log_snr, xp.asarray(values[::-1]), xp.asarray(knots[::-1]))

        return Continuum(len(values), float(knots[0]), scales, rates, change, inverse)

    @property
    def prior_sigma(self):
        return float(np.exp(-self.log_snrs[-1] / 2)) if self.exploding else 1.0

    @property
    def continuous(self):
        return self

    def scales(self, log_snr):
        if self.exploding:
            return jnp.ones_like(log_snr), jnp.exp(-log_snr / 2)
        return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))
