"""Objectives in continuous time, against NCSN's ladder: `VE` has its levels, but for 1e-5 of t."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.likelihood import variational_bound
from unified_diffusion.objectives import Denoising, Hybrid, SingleLevel, Variational
from unified_diffusion.objectives.time_samplers import TIME_SAMPLERS, time_sampler
from unified_diffusion.objectives.weightings import WEIGHTINGS, weight
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP

CHAIN = NCSN(12, sigma_min=0.05, sigma_max=8.0)
LIMIT = CHAIN.continuous
CONTINUOUS = [VP(), SubVP(), VE(), Cosine(), DDPM(betas=(0.1, 0.2, 0.4, 0.3)).continuous]
GMM = GaussianMixture(jnp.array([0.4, 0.6]), jnp.array([[0.5, -0.3], [-0.4, 0.2]]), jnp.array([0.1, 0.3]))
OPTIONS = {"table": {"weights": tuple(range(1, 13))}}


def test_the_limit_is_what_is_meant():
    assert isinstance(LIMIT, VE)
    np.testing.assert_allclose(LIMIT.sigma(LIMIT.times), CHAIN.sigma(CHAIN.times), rtol=1e-4)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings_are_those_of_the_ladder(name):
    chain = weight(name, CHAIN, CHAIN.times)
    np.testing.assert_allclose(weight(name, LIMIT, LIMIT.times), chain, rtol=3e-4)
    np.testing.assert_allclose(weight(name, LIMIT, jnp.asarray(LIMIT.times, jnp.float32)), chain, rtol=3e-4)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("process", CONTINUOUS)
def test_weightings_are_numbers_between_the_levels_too(name, process):
    t = process.draw_times(jax.random.key(0), 50)
    w = weight(name, process, t)
    assert w.shape == (50,)
    assert w.dtype == jnp.float32
    assert np.all(np.isfinite(w))
    assert np.all(np.asarray(w) > 0)


@pytest.mark.parametrize("name", ["vlb", "likelihood", "sigmoid"])
def test_weightings_by_levels_approach_those_of_the_fine_chain(name):
    """They count levels, so that the sum over a chain's levels is the integral over t times their number."""
    chain = DDPM()
    levels = np.arange(20, 1000, 7)  # where the chain's own steps are small
    limit = weight(name, chain.continuous, levels / 1000)
    np.testing.assert_allclose(limit, weight(name, chain, levels), rtol=0.04)


@pytest.mark.parametrize("name", TIME_SAMPLERS)
def test_time_samplers_have_the_ladders_probabilities(name):
    sampler = time_sampler(name, **OPTIONS.get(name, {}))
    np.testing.assert_allclose(sampler.probabilities(LIMIT), sampler.probabilities(CHAIN), rtol=1e-3)
    t, weights = sampler.sample(LIMIT, jax.random.key(1), 4000, sampler.initial_state(LIMIT))
    assert t.dtype == jnp.float32
    assert t.shape == weights.shape == (4000,)
    np.testing.assert_allclose(weights, 1, rtol=1e-6)  # before any loss is known
    assert np.float32(LIMIT.t_min) <= t.min()
    assert float(t.max()) <= 1
    share = np.bincount(np.asarray(LIMIT.level_number(t)), minlength=13)[1:] / 4000
    p = np.asarray(sampler.probabilities(LIMIT), np.float64)
    if name in ("uniform", "low_discrepancy"):  # between the levels: the first and last have half a neighbourhood
        p = np.array([0.5, *[1] * 10, 0.5]) / 11
        assert len(np.unique(t)) > 3900
    assert np.all(np.abs(share - p) < 4 * np.sqrt(p / 4000) + 1e-3)


def test_low_discrepancy_leaves_no_gap_in_time():
    t = np.sort(time_sampler("low_discrepancy").sample(VP(), jax.random.key(0), 100)[0])
    np.testing.assert_allclose(np.diff(t), (1 - 1e-3) / 100, rtol=1e-3)


def test_the_loss_history_knows_the_levels_by_their_times():
    sampler = time_sampler("importance", history=2, uniform=0.01)
    state, size = sampler.initial_state(LIMIT), np.linspace(1, 3, 12)
    times = jnp.asarray(LIMIT.times, jnp.float32)
    for factor in (0.5, 2.0, 1.0):  # the first is forgotten
        state = sampler.update(state, times, jnp.asarray(factor * size, jnp.float32))
    p = 0.99 * size / size.sum() + 0.01 / 12
    np.testing.assert_allclose(sampler.probabilities(LIMIT, state), p, rtol=1e-5)
    t, weights = jax.jit(sampler.sample, static_argnums=(0, 2))(LIMIT, jax.random.key(0), 64, state)
    np.testing.assert_allclose(weights, 1 / (12 * p[LIMIT.level_number(t) - 1]), rtol=1e-5)
    assert np.all(np.isin(t, times))


@pytest.mark.parametrize(
    "objective",
    [
        Denoising(weighting="vlb", normalize=True),
        Variational(discretized=False),
        Variational(variance="small", discretized=False, reduction="sum"),
    ],
)
def test_losses_are_those_of_the_ladder(objective):
    x0, noise = np.random.default_rng(0).normal(size=(2, 12, 2)).astype(np.float32) / 2
    found, expected = (
        objective.at(GMM.denoiser(process), x0, jnp.asarray(t), noise)[0]
        for process, t in ((LIMIT, LIMIT.times.astype(np.float32)), (CHAIN, CHAIN.times))
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("level", [1, 7, 12])
def test_a_single_level_is_the_ladders(level):
    x0 = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32) / 2
    found, expected = (
        SingleLevel(level=level)(GMM.denoiser(process), x0, jax.random.key(0))[0] for process in (LIMIT, CHAIN)
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_effective_weights_are_the_ladders():
    for sampler in ({}, {"time_sampler": "lognormal"}, {"time_sampler": "importance"}):
        objective = Denoising(weighting="min_snr", **sampler)
        for found, expected in zip(objective.effective_weight(LIMIT), objective.effective_weight(CHAIN), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [None, 5])
def test_the_bound_is_the_ladders(steps):
    x0 = GMM.sample(jax.random.key(2), 4)
    found, expected = (
        variational_bound(GMM.denoiser(process), x0, jax.random.key(0), num_steps=steps, discretized=False)
        for process in (LIMIT, CHAIN)
    )
    if steps is None:  # the same levels, with the same noise
        np.testing.assert_allclose(found.diffusion, expected.diffusion, rtol=3e-3, atol=1e-4)
        np.testing.assert_allclose(found.t, LIMIT.times, rtol=1e-6)
    np.testing.assert_allclose(found.prior, expected.prior, rtol=1e-4)
    assert np.all(np.isfinite(found.total))


def test_a_learned_variance_is_that_of_the_step_below():
    def network(x, noise_label, label=None, *, rngs=None):
        return jnp.concatenate([0 * x, 0 * x + 0.5], axis=-1)

    x0 = np.zeros((12, 2), np.float32)
    found, expected = (
        Denoiser(network, process, variance="learned")(x0, t).log_variance
        for process, t in ((LIMIT, LIMIT.times), (CHAIN, CHAIN.times))
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)
    loss, _ = Hybrid(discretized=False)(Denoiser(network, VP(), variance="learned"), x0, jax.random.key(0))
    assert np.all(np.isfinite(loss))
