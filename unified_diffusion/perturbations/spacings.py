"""Step spacings: the noise levels that a sampler of few steps visits.

A new spacing is a function and a line in `SPACINGS`.
"""

import numpy as np

from unified_diffusion.registry import lookup


def uniform(process, num_steps):
    """Times `[num_steps + 1]` evenly spaced in t; for as many steps as levels they are the levels themselves."""
    if num_steps == process.num_steps:
        return np.append(process.times[::-1], 0)
    return np.linspace(process.times[-1], 0, num_steps + 1)


def trailing(process, num_steps):
    """Times from the last level down by equal strides, as `uniform`, since every schedule here starts at the prior.

    Lin et al. 2024, table 2, compare this spacing with those that leave the last level out.
    """
    return uniform(process, num_steps)


def quadratic(process, num_steps):
    """Times evenly spaced in sqrt(t), which lie denser near the data. Song, Meng & Ermon 2021, appendix D.2."""
    return process.times[-1] * np.linspace(1, 0, num_steps + 1) ** 2


def log_snr(process, num_steps):
    """Times evenly spaced in the log-SNR from the last level to the first, then 0. Lu et al. 2022, section 3.4."""
    last, first = process.exact(process.times[[-1, 0]]).log_snr
    return np.append(_times(process, np.linspace(last, first, num_steps)), 0)


def karras(process, num_steps, rho=7.0):
    """Times evenly spaced in (sigma / alpha)^(1 / 7) from the last level to the first, then 0.

    Karras et al. 2022, eq. 5.
    """
    last, first = np.exp(process.exact(process.times[[-1, 0]]).log_snr / (-2 * rho))
    return np.append(_times(process, -2 * rho * np.log(np.linspace(last, first, num_steps))), 0)


SPACINGS = {"uniform": uniform, "trailing": trailing, "quadratic": quadratic, "log_snr": log_snr, "karras": karras}


def spaced(process, num_steps, spacing):
    """The times `[num_steps + 1]` of the spacing with this name, in float64, strictly decreasing to 0.

    Raises:
        UserError: an unknown spacing.
    """
    return np.asarray(lookup(SPACINGS, spacing, "step spacing")(process, num_steps), np.float64)


def _times(process, log_snrs):
    """The times at rising log-SNRs. The first time is set to the last level, since rounding may move it."""
    times = np.asarray(process.time_of(log_snrs), np.float64)
    times[0] = process.times[-1]
    return times
