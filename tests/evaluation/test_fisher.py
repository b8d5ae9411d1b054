"""The Fisher divergence against closed forms for Gaussians."""

import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.evaluation import fisher_divergence
from unified_diffusion.perturbations import DDPM, NCSN

PROCESSES = {"ddpm": DDPM(100, "cosine"), "ncsn": NCSN(50, sigma_min=0.05, sigma_max=5.0)}
TIMES = np.array([1, 5, 20, 50])


def gaussian(mean, std):
    return GaussianMixture(jnp.ones(1), jnp.asarray([mean], jnp.float32), jnp.asarray([std], jnp.float32))


def levels(process):
    return process.table.alpha[TIMES], process.table.sigma[TIMES]


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_exact_denoiser_has_none(process):
    mixture = GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([[0.5, 0.0], [-0.5, 0.2]]), jnp.array([0.1, 0.3]))
    result = fisher_divergence(mixture.denoiser(process), mixture, TIMES, num_samples=1000, batch_size=500)
    np.testing.assert_allclose(result.scaled, 0, atol=1e-12)
    assert result.divergence.shape == result.scaled.shape == result.scaled_error.shape == (4,)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_a_shifted_gaussian(process):
    """s_hat - s = alpha (m_hat - m) / (alpha² std² + sigma²), everywhere the same."""
    shift = np.array([0.3, -0.4])
    model = gaussian(np.array([0.2, 0.1]) + shift, 0.5).denoiser(process)
    result = fisher_divergence(model, gaussian([0.2, 0.1], 0.5), TIMES, num_samples=100, batch_size=100)
    alpha, sigma = levels(process)
    exact = 0.5 * 0.25 * (alpha / (alpha**2 * 0.25 + sigma**2)) ** 2
    np.testing.assert_allclose(result.divergence, exact, rtol=1e-3)
    np.testing.assert_allclose(result.scaled, sigma**2 * exact, rtol=1e-3)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_a_wider_gaussian(process):
    """½ E‖x / v - x / v_hat‖² = ½ D v (1 / v - 1 / v_hat)²."""
    result = fisher_divergence(gaussian([0.0] * 3, 0.7).denoiser(process), gaussian([0.0] * 3, 0.5), TIMES, seed=1)
    alpha, sigma = levels(process)
    v, v_hat = ((alpha * std) ** 2 + sigma**2 for std in (0.5, 0.7))
    exact = sigma**2 * 0.5 * 3 * v * (1 / v - 1 / v_hat) ** 2
    assert np.all(np.abs(result.scaled - exact) < 4 * result.scaled_error)
    np.testing.assert_allclose(result.scaled_error, exact * np.sqrt(2 / 3 / 10_000), rtol=0.1)


def test_draws_repeat_and_differ_between_seeds():
    process = PROCESSES["ddpm"]
    model, data = gaussian([0.0], 0.7).denoiser(process), gaussian([0.0], 0.5)
    first, second, other = (
        fisher_divergence(model, data, TIMES, num_samples=200, batch_size=100, seed=seed).scaled for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert np.all(first != other)
