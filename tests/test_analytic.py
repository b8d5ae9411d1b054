"""The Gaussian mixture against SciPy, numerical integration, and its own gradient (Tweedie)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Mixture
from scipy.stats import multivariate_normal

from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN

WEIGHTS, MEANS, STDS = np.array([0.2, 0.5, 0.3]), np.array([[-1.0, 0.5], [0.2, 0.1], [0.9, -0.8]]), [0.1, 0.3, 0.5]
TRUTH = Mixture(WEIGHTS, MEANS, np.array(STDS))
PROCESSES = [DDPM(50, "cosine"), DDPM(), NCSN(20, sigma_min=0.02, sigma_max=10.0)]


def mixture(weights=WEIGHTS, means=MEANS, stds=STDS):
    return GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in (weights, means, stds)))


def scipy_log_prob(x, alpha=1.0, sigma=0.0):
    densities = [
        w * multivariate_normal.pdf(x, alpha * m, (alpha * s) ** 2 + sigma**2)
        for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)
    ]
    return np.log(np.sum(densities, axis=0))


def test_log_prob_is_scipys():
    x = np.random.default_rng(0).normal(size=(200, 2))
    np.testing.assert_allclose(TRUTH.log_prob(x), scipy_log_prob(x), rtol=1e-10)
    np.testing.assert_allclose(mixture().log_prob(jnp.asarray(x, jnp.float32)), scipy_log_prob(x), rtol=2e-5, atol=2e-5)


def test_weights_are_normalised():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    np.testing.assert_allclose(mixture(7 * WEIGHTS).log_prob(x), mixture().log_prob(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("process", PROCESSES)
def test_log_prob_under_noise_is_the_convolved_mixture(process):
    x = np.random.default_rng(0).normal(size=(100, 2))
    for t in (1, process.num_steps // 2, process.num_steps):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        log_prob = mixture().log_prob(jnp.asarray(x, jnp.float32), process, t)
        np.testing.assert_allclose(log_prob, scipy_log_prob(x, alpha, sigma), rtol=2e-5, atol=2e-5)
    t = np.full(100, process.num_steps)
    np.testing.assert_allclose(mixture().log_prob(jnp.asarray(x, jnp.float32), process, t), log_prob, rtol=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_denoiser_is_the_integral_over_x0(process):
    """E[x_0 | x_t] by the trapezoid rule in one dimension."""
    weights, means, stds = np.array([0.3, 0.7]), np.array([-0.5, 0.6]), np.array([0.2, 0.3])
    denoiser = mixture(weights, means[:, None], stds).denoiser(process)
    grid = np.linspace(-3, 3, 20001)
    prior = sum(w / s * np.exp(-((grid - m) ** 2) / (2 * s**2)) for w, m, s in zip(weights, means, stds, strict=True))
    for t in (1, process.num_steps // 2, process.num_steps):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x_t = alpha * np.linspace(-1, 1, 11) + sigma * np.linspace(-1, 1, 11) ** 2
        joint = prior * np.exp(-((x_t[:, None] - alpha * grid) ** 2) / (2 * sigma**2))
        exact = (joint * grid).sum(1) / joint.sum(1)
        np.testing.assert_allclose(denoiser(jnp.asarray(x_t[:, None], jnp.float32), t).x0[:, 0], exact, atol=1e-5)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_score_is_the_gradient_of_log_prob(process):
    t = np.array([1, 2, process.num_steps // 2, process.num_steps] * 25)
    x0 = mixture().sample(jax.random.key(0), len(t))
    x_t = process.perturb(x0, t, jax.random.normal(jax.random.key(1), x0.shape))
    gradient = jax.grad(lambda x: jnp.sum(mixture().log_prob(x, process, t)))(x_t)
    score = mixture().denoiser(process)(x_t, t).score
    # Compared as eps = -sigma score, the unit in which either is exact.
    np.testing.assert_allclose(score * process.sigma(t)[:, None], gradient * process.sigma(t)[:, None], atol=1e-4)


def test_the_denoiser_is_the_float64_one():
    process = DDPM()
    t = np.arange(1, 1001, 9)
    x_t = process.perturb(
        mixture().sample(jax.random.key(0), len(t)), t, jax.random.normal(jax.random.key(1), (len(t), 2))
    )
    levels = zip(process.table.alpha[t], process.table.sigma[t], np.asarray(x_t, np.float64), strict=True)
    exact = np.concatenate([TRUTH.x0(x[None], alpha, sigma) for alpha, sigma, x in levels])
    np.testing.assert_allclose(mixture().denoiser(process)(x_t, t).x0, exact, atol=3e-5)


def test_pictures_are_read_as_vectors():
    means = np.random.default_rng(0).normal(size=(2, 4))
    picture = mixture([0.4, 0.6], means, [0.3, 0.5])
    x = jax.random.normal(jax.random.key(0), (6, 2, 2, 1))
    process = NCSN()
    np.testing.assert_array_equal(picture.log_prob(x), picture.log_prob(x.reshape(6, 4)))
    flat = picture.denoiser(process)(x.reshape(6, 4), 3).x0
    np.testing.assert_array_equal(picture.denoiser(process)(x, 3).x0, flat.reshape(x.shape))


def test_samples_have_the_mixtures_weights_means_and_stds():
    n = 40_000
    separate = mixture(means=10 * MEANS)  # so that each sample tells its component
    x = np.asarray(separate.sample(jax.random.key(0), n))
    component = np.argmin(((x[:, None] - 10 * MEANS) ** 2).sum(-1), axis=1)
    for k, (weight, mean, std) in enumerate(zip(WEIGHTS, 10 * MEANS, STDS, strict=True)):
        own = x[component == k]
        assert abs(len(own) / n - weight) < 4 * np.sqrt(weight * (1 - weight) / n)
        assert np.all(np.abs(own.mean(0) - mean) < 4.5 * std / np.sqrt(len(own)))
        assert np.all(np.abs(own.std(0) / std - 1) < 4.5 / np.sqrt(2 * len(own)))
