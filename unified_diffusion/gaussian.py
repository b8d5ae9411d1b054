"""Closed forms of Gaussians with diagonal covariance, element by element; the caller sums over the elements."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

HALF_BIN = 1 / 255  # 256 grey levels k / 127.5 - 1 from -1 to 1
_LOG_SQRT_TWO_PI = np.log(2 * np.pi) / 2
_NODES, _WEIGHTS = (half[3:] for half in np.polynomial.legendre.leggauss(6))


def kl_divergence(mean_1, log_variance_1, mean_2, log_variance_2):
    """The divergence KL(N(mean_1, variance_1) || N(mean_2, variance_2)), in nats.

    With d = log(variance_1 / variance_2) the divergence is ½ [e^d - 1 - d + (mean_1 - mean_2)² / variance_2].
    """
    change = log_variance_1 - log_variance_2
    return (jnp.expm1(change) - change + (mean_1 - mean_2) ** 2 * jnp.exp(-log_variance_2)) / 2


def log_density(x, mean, log_variance):
    """The log density log N(x; mean, variance), in nats."""
    return -((x - mean) ** 2 * jnp.exp(-log_variance) + log_variance) / 2 - _LOG_SQRT_TWO_PI


def discretized_log_likelihood(x, mean, log_variance):
    """The log probability that N(mean, variance) gives to the grey level x, in nats. Ho et al. 2020, eq. 13.

    The probability is the integral of the density from x - 1/255 to x + 1/255; the first bin reaches down to -∞ and the
    last one up to ∞, so the probabilities of the 256 levels sum to 1. The logarithm and its gradients are finite, and
    right to float32 precision even where the distribution functions at the two ends are equal in float32.

    Args:
        x: grey levels k / 127.5 - 1, k = 0 … 255, in [-1, 1].
        mean, log_variance: the mean and the log variance of the Gaussian; they broadcast against x.
    """
    scale = jnp.exp(-log_variance / 2)
    centre, half = (x - mean) * scale, HALF_BIN * scale * jnp.ones_like(x - mean)
    distance = jnp.abs(centre)
    # A narrow bin is an integral of a smooth function. A wide bin is a difference of distribution functions, taken in
    # the left tail, where they keep their digits. Each formula gets harmless values where the other one is used.
    narrow = (half < 0.5) & (distance * half < 2)
    inner = _narrow(jnp.where(narrow, distance, 0), jnp.where(narrow, half, 0.1))
    outer = _wide(jnp.where(narrow, 0, distance), jnp.where(narrow, 1, half))
    inside = jnp.where(narrow, inner, outer)
    # The end bins are recognised half a bin from the ends, so that rounding does not matter.
    return jnp.where(
        x < HALF_BIN - 1, log_ndtr(centre + half), jnp.where(x > 1 - HALF_BIN, log_ndtr(half - centre), inside)
    )


def bits_per_dim(nats, dimensions):
    """Converts the nats of an example of `dimensions` dimensions to bits per dimension: nats / (dimensions log 2)."""
    return nats / (dimensions * np.log(2))


def _narrow(centre, half):
    """The log integral of the standard normal over [centre - half, centre + half], half < 0.5 and centre half < 2.

    Gauss-Legendre quadrature of exp(-centre u - u²/2), whose six nodes pair into three cosh, is exact to 1e-7 there.
    """
    pairs = sum(
        2 * weight * jnp.cosh(centre * half * node) * jnp.exp(-((half * node) ** 2) / 2)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True)
    )
    return jnp.log(half * pairs) - centre**2 / 2 - _LOG_SQRT_TWO_PI


def _wide(centre, half):
    """The log integral of the standard normal over a bin that is not narrow, for centre >= 0.

    The integral is Phi(half - centre) - Phi(-half - centre), with Phi the distribution function.
    """
    upper, lower = log_ndtr(half - centre), log_ndtr(-half - centre)
    return upper + jnp.log(-jnp.expm1(lower - upper))
