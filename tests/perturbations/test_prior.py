"""The prior: its samples, and KL(q(x_T | x_0) || prior) against the closed form in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import PROCESSES

from unified_diffusion.perturbations import DDPM


def prior_sigma(name, chain):
    return 1.0 if name.startswith("ddpm") else np.sqrt(chain.marginals()[1][-1])


@pytest.mark.parametrize("name", PROCESSES)
def test_prior_kl_is_that_of_two_gaussians(name):
    process, chain = PROCESSES[name]
    alpha, variance = (level[-1] for level in chain.marginals())
    prior = prior_sigma(name, chain) ** 2
    x0 = np.random.default_rng(0).uniform(-1, 1, size=(3, 4, 4, 2))
    # log1p keeps what 1 - alpha-bar has lost: DDPM's variance is 1 - alpha-bar with alpha-bar a few 1e-5.
    missing = -(alpha**2) if name.startswith("ddpm") else 0.0
    exact = 0.5 * np.sum(missing - np.log1p(missing) + alpha**2 * x0**2 / prior, axis=(1, 2, 3))
    np.testing.assert_allclose(variance / prior - 1, missing, atol=1e-12)
    np.testing.assert_allclose(process.prior_kl(jnp.asarray(x0, jnp.float32)), exact, rtol=2e-6)


def test_prior_kl_of_ddpm_is_a_hundred_thousandth_of_a_nat_per_dimension():
    x0 = jnp.full((1, 32, 32, 3), 0.5)
    # alpha-bar x0² / 2; the variance's own part is 4e-10.
    np.testing.assert_allclose(DDPM().prior_kl(x0) / (32 * 32 * 3), 4.0358e-5 * 0.25 / 2 + 4.07e-10, rtol=1e-4)
    np.testing.assert_allclose(DDPM().prior_kl(0 * x0) / (32 * 32 * 3), 4.072e-10, rtol=1e-3)


@pytest.mark.parametrize("name", PROCESSES)
def test_prior_samples_have_its_standard_deviation(name):
    process, chain = PROCESSES[name]
    x = np.asarray(process.sample_prior(jax.random.key(0), (400, 5, 5, 4)))
    count, sigma = x.size, prior_sigma(name, chain)
    assert x.shape == (400, 5, 5, 4)
    assert abs(x.mean()) < 4 * sigma / np.sqrt(count)
    assert abs(x.std() / sigma - 1) < 4 / np.sqrt(2 * count)
    np.testing.assert_allclose(process.prior_sigma, sigma, rtol=1e-12)
