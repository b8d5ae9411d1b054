"""Closed forms of Gaussians, against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, special, stats

from unified_diffusion import gaussian

GREY = np.arange(256) / 127.5 - 1


def exact_log_probability(x, mean, std):
    """log of the normal integral over a bin of 256, in float64; open at x = -1 and 1. Ho et al. 2020, eq. 13."""
    upper, lower = (x + 1 / 255 - mean) / std, (x - 1 / 255 - mean) / std
    flip = lower + upper > 0
    upper, lower = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
    high, low = special.log_ndtr(upper), special.log_ndtr(lower)
    inside = high + np.log(-np.expm1(low - high))
    first, last = special.log_ndtr((x + 1 / 255 - mean) / std), special.log_ndtr(-(x - 1 / 255 - mean) / std)
    return np.where(x < -0.999, first, np.where(x > 0.999, last, inside))


log_likelihood = jax.jit(gaussian.discretized_log_likelihood)
# Standard deviations from far below a bin's width (0.0078) to beyond the data's range.
STDS = np.array([1e-4, 5e-4, 0.002, 0.004, 0.0079, 0.0111, 0.03, 0.1, 0.5, 2.0, 50.0])


def inputs(offsets, stds=STDS, levels=GREY):
    """(x, mean, log variance) `[std, offset, grey level]`, in float32, so that float64 is given the same numbers."""
    std, offset, x = np.broadcast_arrays(stds[:, None, None], np.array(offsets)[:, None], levels)
    x = np.float32(x)
    return x, x + np.float32(offset * std), np.float32(2 * np.log(std))


def exact(x, mean, log_variance):
    return exact_log_probability(np.float64(x), np.float64(mean), np.exp(np.float64(log_variance) / 2))


def test_the_decoder_is_the_normal_integral_over_a_bin():
    given = inputs([-8, -5, -2.5, -1, -0.3, -1e-3, 0, 0.01, 0.7, 2, 4, 7.9])
    np.testing.assert_allclose(log_likelihood(*given), exact(*given), rtol=1e-5, atol=1e-5)


def test_far_in_the_tails_the_decoder_stays_finite_and_right():
    given = inputs([-1e4, -300.0, -30.0, 12.0, 100.0, 1e3], STDS)
    np.testing.assert_allclose(log_likelihood(*given), exact(*given), rtol=1e-5, atol=1e-6)
    gradients = jax.jit(jax.grad(lambda *given: jnp.sum(log_likelihood(*given)), argnums=(1, 2)))(*given)
    assert all(np.all(np.isfinite(part)) for part in gradients)


def test_the_bins_of_256_levels_have_probabilities_that_sum_to_one():
    mean = np.float32(np.random.default_rng(0).uniform(-1.5, 1.5, (len(STDS), 20, 1)))
    log_prob = log_likelihood(np.float32(GREY), mean, np.float32(2 * np.log(STDS))[:, None, None])
    np.testing.assert_allclose(np.exp(np.float64(log_prob)).sum(-1), 1, rtol=2e-5)


def test_gradients_of_the_decoder_are_finite_differences():
    stds = np.array([0.004, 0.03, 0.5])
    x, mean, log_variance = inputs([-3.0, -0.4, 0.2, 2.0], stds, GREY[[0, 1, 100, 254, 255]])
    step = 1e-4 * stds[:, None, None]
    above, below = (exact(x, np.float64(mean) + sign * step, log_variance) for sign in (1, -1))
    of_mean = (above - below) / 2e-4  # times the standard deviation
    above, below = (exact(x, mean, np.float64(log_variance) + sign * 1e-4) for sign in (1, -1))
    gradient = jax.jit(jax.grad(lambda *given: jnp.sum(log_likelihood(*given)), argnums=(1, 2)))(x, mean, log_variance)
    np.testing.assert_allclose(gradient[0] * stds[:, None, None], of_mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(gradient[1], (above - below) / 2e-4, rtol=1e-3, atol=1e-3)


def test_kl_divergence_is_the_integral():
    for mean_1, std_1, mean_2, std_2 in [(0.1, 0.5, -0.3, 0.7), (0, 1, 0, 1), (2.0, 0.1, 1.5, 0.3), (0, 1, 0, 1.01)]:
        one, two = stats.norm(mean_1, std_1), stats.norm(mean_2, std_2)
        exact, _ = integrate.quad(
            lambda x, one=one, two=two: one.pdf(x) * (one.logpdf(x) - two.logpdf(x)),
            mean_1 - 12 * std_1,
            mean_1 + 12 * std_1,
            epsabs=1e-12,
        )
        log_variances = (jnp.float32(2 * np.log(std)) for std in (std_1, std_2))
        log_1, log_2 = log_variances
        result = gaussian.kl_divergence(jnp.float32(mean_1), log_1, jnp.float32(mean_2), log_2)
        np.testing.assert_allclose(result, exact, rtol=2e-6, atol=1e-7)


def test_log_density_and_bits():
    x = np.float32(np.linspace(-2, 2, 9))
    result = gaussian.log_density(x, np.float32(0.3), np.float32(2 * np.log(0.4)))
    np.testing.assert_allclose(result, stats.norm(0.3, 0.4).logpdf(np.float64(x)), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(gaussian.bits_per_dim(np.log(256) * 12, 12), 8, rtol=1e-12)
