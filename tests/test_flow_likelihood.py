"""The probability flow's log-likelihood, against Gaussian mixtures in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.likelihood import flow_likelihood, variational_bound
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


def test_hutchinsons_trace_is_unbiased_and_better_with_more_probes():
    truth = mixture(4)
    x, keys = jnp.repeat(truth.sample(jax.random.key(1), 1), 400, axis=0), jax.random.split(jax.random.key(2), 400)
    denoiser = truth.denoiser(VP(t_min=1e-5))
    exact = flow_likelihood(denoiser, x[:1], jax.random.key(0), trace="exact", dequantization="none").log_prob[0]
    spread = []
    for num_probes in (1, 8):
        found = flow_likelihood(denoiser, x, keys, num_probes=num_probes, dequantization="none").log_prob
        spread.append(float(jnp.std(found)))
        assert abs(float(jnp.mean(found) - exact)) < 4 * spread[-1] / np.sqrt(400) + 1e-3
    assert spread[0] > 0.01
    # the variance of a mean of 8, give or take 4 standard errors of either's estimate
    assert 0.7 < spread[0] / spread[1] / np.sqrt(8) < 1.4


@pytest.mark.parametrize(
    ("dequantization", "middle", "cells"),
    [("centred", lambda k: k / 127.5 - 1, 127.5), ("shifted", lambda k: (k + 0.5) / 128 - 1, 128.0)],
)
def test_the_probability_of_grey_levels(dequantization, middle, cells):
    """A density so wide that it hardly changes over a grey level, whose cell it is to be taken over."""
    wide = GaussianMixture(jnp.ones(1), jnp.zeros((1, 20)), jnp.full(1, 3.0))
    grey = np.random.default_rng(0).integers(0, 256, (8, 20))
    found = flow_likelihood(
        wide.denoiser(VE(sigma_max=3000.0)),
        grey / 127.5 - 1,
        jax.random.key(0),
        trace="exact",
        dequantization=dequantization,
    )
    probability = -0.5 * (middle(grey) / 3) ** 2 - np.log(3 * np.sqrt(2 * np.pi)) - np.log(cells)
    # the two cells' widths differ by 0.004 nats
    np.testing.assert_allclose(found.bits_per_dim, -probability.mean(1) / np.log(2), atol=1e-3)


def test_the_bound_is_not_above_it():
    """In expectation -log p(x) is below the bound: of the exact denoiser by much for few steps, by little for many."""
    truth, process = mixture(4), DDPM(200, "cosine")
    x = truth.sample(jax.random.key(1), 1000)
    flow = flow_likelihood(truth.denoiser(process), x, jax.random.key(0), trace="exact", dequantization="none")
    excess, errors = [], []
    for num_steps in (5, 200):
        bound = variational_bound(truth.denoiser(process), x, jax.random.key(3), num_steps=num_steps, discretized=False)
        over = np.asarray(bound.total - flow.bits_per_dim, np.float64)
        excess.append(over.mean())
        errors.append(over.std(ddof=1) / np.sqrt(len(over)))
    assert excess[0] > 5 * errors[0]
    assert -3 * errors[1] < excess[1] < excess[0] / 2
    assert errors[1] < 0.03


class Shifted:
    """Data are a standard normal around the label, under a process of that variance throughout."""

    def __init__(self, process):
        self.process = process

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        alpha, sigma = self.process.scales(self.process.label_log_snr(noise_label))
        mean = label[:, None].astype(jnp.float32)
        return mean + (alpha / (alpha**2 + sigma**2))[:, None] * (x - alpha[:, None] * mean)


def test_each_example_has_its_own_label_and_its_own_key():
    process = VP(t_min=1e-5)
    denoiser = Denoiser(Shifted(process), process, prediction="x0")
    labels, x = jnp.array([-1, 0, 2]), jnp.zeros((3, 2))
    found = flow_likelihood(denoiser, x, jax.random.key(0), labels, dequantization="none")
    # The prior does not know of what is left of the mean, alpha(1) times it.
    exact = -np.square((1 - float(process.alpha(1.0))) * np.array([-1.0, 0.0, 2.0])) - np.log(2 * np.pi)
    np.testing.assert_allclose(found.log_prob, exact, atol=1e-3)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(3))
    alone = flow_likelihood(denoiser, x[1:2], keys[1:2], labels[1:2])
    together = flow_likelihood(denoiser, x, jax.random.key(0), labels)
    np.testing.assert_allclose(alone.log_prob, together.log_prob[1:2], atol=1e-4)
    np.testing.assert_allclose(alone.latent, together.latent[1:2], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trace": "exakt"}, "did you mean 'exact'"),
        ({"dequantization": "centered"}, "did you mean 'centred'"),
        ({"solver": "tsit"}, "did you mean 'tsit5'"),
        ({"num_probes": 0}, "take at least 1"),
        ({"rtol": -1.0}, "neither may be negative"),
        ({"max_steps": 3}, "2 of 2 examples did not come to the end .* max_steps = 3"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        flow_likelihood(mixture(2).denoiser(VP()), jnp.zeros((2, 2)), jax.random.key(0), **options)
