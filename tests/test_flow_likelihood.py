"""The probability flow's log-likelihood, against Gaussian mixtures in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.likelihood import flow_likelihood
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP

WEIGHTS = np.array([0.2, 0.5, 0.3])
STDS = np.array([0.3, 0.4, 0.5])
# Ends near enough to data and prior that neither is seen at 1e-3 nats; the ladders' limits, too.
PROCESSES = {
    "vp": VP(t_min=1e-5),
    "sub_vp": SubVP(),
    "ve": VE(sigma_min=0.005),
    "cosine": Cosine(offset=0.0),
    "ddpm": DDPM(beta_start=1e-5),
    "ddpm_cosine": DDPM(schedule="cosine"),
    "ncsn": NCSN(50, sigma_min=0.005, sigma_max=100.0),
}


def mixture(dimensions):
    """Three components of unequal weights, about 0."""
    means = np.random.default_rng(0).normal(size=(3, dimensions)) * 0.6
    return GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in (WEIGHTS, means - WEIGHTS @ means, STDS)))


@pytest.mark.parametrize("name", PROCESSES)
def test_the_exact_denoisers_is_the_true_one(name):
    truth = mixture(6)
    x = truth.sample(jax.random.key(1), 16)
    found = flow_likelihood(truth.denoiser(PROCESSES[name]), x, jax.random.key(0), trace="exact", dequantization="none")
    np.testing.assert_allclose(found.log_prob / 6, truth.log_prob(x) / 6, atol=1e-3)
    np.testing.assert_allclose(found.bits_per_dim, -found.log_prob / 6 / np.log(2), rtol=1e-6)
    assert np.all(found.evaluations > 10)
