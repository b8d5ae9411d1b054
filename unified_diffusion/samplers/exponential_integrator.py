"""Functions of the exponential integrators: DPM-Solver++ and UniPC, which solve x's linear part exactly.

With lambda = log(alpha / sigma), half the log-SNR, x_s = (sigma_s / sigma_t) x_t + sigma_s ∫ exp(lambda) x0_hat dlambda
from lambda_t to lambda_s (Lu et al. 2022b, eq. 8).
"""

import math

import numpy as np


def phi(k, z):
    """phi_k(z) = ∫_0^1 exp((1 - u) z) u^(k - 1) / (k - 1)! du, in float64; phi_1(z) = (exp(z) - 1) / z.

    It is computed by phi_{k+1}(z) = (phi_k(z) - 1 / k!) / z, and by its series near 0, where that difference cancels
    (Hochbruck & Ostermann 2010).
    """
    z = np.asarray(z, np.float64)
    if k == 0:
        return np.exp(z)
    small = np.abs(z) < 1
    near = np.where(small, z, 0)
    series = sum(near**n / math.factorial(n + k) for n in range(18))
    return np.where(small, series, (phi(k - 1, z) - 1 / math.factorial(k - 1)) / np.where(small, 1, z))


def orders(num_steps, order):
    """The order of each step `[num_steps]`: as high as the steps before it allow, and 1 in the last step.

    Along the last step, to clean data, lambda rises without end.
    """
    return np.append(np.minimum(np.arange(1, num_steps), order), 1)
