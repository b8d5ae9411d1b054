"""Step spacings: which noise levels a sampler of few steps visits. A new one is a function and a line in `SPACINGS`."""

import numpy as np

from unified_diffusion.registry import lookup


def uniform(levels, num_steps):
    """Evenly spaced in t; of as many steps as there are levels, the levels themselves."""
    if num_steps == levels.num_steps:
        return np.append(levels.times[::-1], 0)
    return np.linspace(levels.times[-1], 0, num_steps + 1)


def trailing(levels, num_steps):
    """From the last level down by equal strides: what `uniform` is here, too, since every schedule starts at the prior.

    Lin et al. 2024, table 2, where it is set against spacings that leave the last level out.
    """
    return uniform(levels, num_steps)


def quadratic(levels, num_steps):
    """Evenly spaced in sqrt(t), so denser near the data. Song, Meng & Ermon 2021, appendix D.2."""
    return levels.times[-1] * np.linspace(1, 0, num_steps + 1) ** 2


def log_snr(levels, num_steps):
    """Evenly spaced in the log-SNR from the last level to the first, then 0. Lu et al. 2022, section 3.4."""
    ends = levels.exact(levels.times[[-1, 0]])[2]
    return np.append(_times(levels, np.linspace(*ends, num_steps)), 0)


def karras(levels, num_steps, rho=7.0):
    """Evenly spaced in (sigma / alpha)^(1 / 7) from the last level to the first, then 0. Karras et al. 2022, eq. 5."""
    ends = np.exp(levels.exact(levels.times[[-1, 0]])[2] / (-2 * rho))
    return np.append(_times(levels, -2 * rho * np.log(np.linspace(*ends, num_steps))), 0)


SPACINGS = {"uniform": uniform, "trailing": trailing, "quadratic": quadratic, "log_snr": log_snr, "karras": karras}


def spaced(levels, num_steps, spacing):
    """Times `[num_steps + 1]` of a spacing by name, in float64, strictly decreasing to 0.

    Raises:
        UserError: unknown spacing.
    """
    return np.asarray(lookup(SPACINGS, spacing, "step spacing")(levels, num_steps), np.float64)


def _times(levels, log_snrs):
    """The times at rising log-SNRs; the first is the last level itself, whatever rounding makes of it."""
    times = np.asarray(levels.time_of(log_snrs), np.float64)
    times[0] = levels.times[-1]
    return times
