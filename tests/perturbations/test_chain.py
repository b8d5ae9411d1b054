"""Transitions and posteriors of the chain, each against float64: composition, and Bayes' rule for Gaussians."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import PROCESSES, ddpm_chain, ncsn_chain, pairs

from unified_diffusion.perturbations import DDPM, NCSN


@pytest.mark.parametrize("name", PROCESSES)
def test_transitions_are_the_composed_steps(name):
    process, chain = PROCESSES[name]
    s, t = np.array(pairs(process.num_steps)).T
    scale, variance = process.transition(s, t)
    exact = np.array([chain.transition(*pair) for pair in zip(s, t, strict=True)]).T
    np.testing.assert_allclose(scale, exact[0], rtol=1e-6)
    np.testing.assert_allclose(variance, exact[1], rtol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_every_one_step_transition_is_the_chains_own(name):
    process, chain = PROCESSES[name]
    t = np.arange(1, process.num_steps + 1)
    scale, variance = process.transition(t - 1, t)
    np.testing.assert_allclose(scale, chain.scale[1:], rtol=1e-6)
    np.testing.assert_allclose(variance, chain.variance[1:], rtol=1e-6)  # DDPM's beta_t


@pytest.mark.parametrize("name", PROCESSES)
def test_the_librarys_steps_chained_give_the_marginal_and_the_stride(name):
    process, _ = PROCESSES[name]
    t = np.arange(1, process.num_steps + 1)
    scales, variances = (np.asarray(level, np.float64) for level in process.transition(t - 1, t))
    middle = process.num_steps // 2
    for start in (0, middle):
        scale, variance = 1.0, 0.0
        for step in range(start, process.num_steps):
            scale, variance = scale * scales[step], variance * scales[step] ** 2 + variances[step]
        strided = process.transition(start, process.num_steps)
        # Up to num_steps float32 factors are multiplied, each rounded once or twice.
        rtol = 1e-6 + 2**-23 * np.sqrt(process.num_steps)
        np.testing.assert_allclose(strided, (scale, variance), rtol=rtol)
        if start == 0:
            marginal = process.alpha(process.num_steps), process.sigma(process.num_steps) ** 2
            np.testing.assert_allclose(marginal, strided, rtol=2e-7)


@pytest.mark.parametrize("name", PROCESSES)
def test_posterior_is_bayes_rule(name):
    process, chain = PROCESSES[name]
    s, t = np.array(pairs(process.num_steps, seed=1)).T
    a, b, variance = np.array([chain.posterior(*pair) for pair in zip(s, t, strict=True)]).T
    np.testing.assert_allclose(process.posterior_coefficients(s, t)[0], a, rtol=1e-6)
    np.testing.assert_allclose(process.posterior_coefficients(s, t)[1], b, rtol=1e-6)
    np.testing.assert_allclose(process.posterior_variance(s, t), variance, rtol=1e-6)

    rng = np.random.default_rng(2)
    x0, x_t = rng.normal(size=(2, len(s), 3)).astype(np.float32)
    mean, posterior_variance = process.posterior(jnp.asarray(x0), jnp.asarray(x_t), s, t)
    size = np.abs(a[:, None] * x0) + np.abs(b[:, None] * x_t)
    error = np.abs(mean - (a[:, None] * x0.astype(np.float64) + b[:, None] * x_t))
    assert np.all(error <= 1e-6 * size)
    np.testing.assert_array_equal(posterior_variance, process.posterior_variance(s, t))


@pytest.mark.parametrize("name", PROCESSES)
def test_the_posterior_at_zero_is_x0_itself(name):
    process, _ = PROCESSES[name]
    x0, x_t = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 2, 2, 1)), jnp.float32)
    for t in {1, process.num_steps}:
        mean, variance = process.posterior(x0, x_t, 0, t)
        np.testing.assert_array_equal(mean, x0)
        assert variance == 0


@pytest.mark.parametrize("name", PROCESSES)
def test_reverse_variances(name):
    process, chain = PROCESSES[name]
    s, t = np.array(pairs(process.num_steps, seed=3)).T
    large = [chain.transition(*pair)[1] for pair in zip(s, t, strict=True)]
    # The step to 0 has posterior variance 0; DDPM then takes that of the step above it.
    small = [chain.posterior(*pair)[2] if pair[0] else chain.posterior(1, 2)[2] for pair in zip(s, t, strict=True)]
    np.testing.assert_allclose(process.reverse_variance(s, t, "large"), large, rtol=1e-6)
    np.testing.assert_allclose(process.reverse_variance(s, t, "small"), small, rtol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_perturb_scales_signal_and_noise_of_each_example(name):
    process, chain = PROCESSES[name]
    alpha, variance = chain.marginals()
    x0, noise = np.random.default_rng(0).normal(size=(2, 5, 2, 3, 1))
    t = np.linspace(0, process.num_steps, 5).astype(int)
    exact = alpha[t, None, None, None] * x0 + np.sqrt(variance)[t, None, None, None] * noise
    x_t = process.perturb(jnp.asarray(x0, jnp.float32), t, jnp.asarray(noise, jnp.float32))
    np.testing.assert_allclose(x_t, exact, rtol=1e-6, atol=1e-6 * float(process.sigma(process.num_steps)))


@given(
    betas=st.lists(st.floats(1e-5, 0.98), min_size=2, max_size=12),
    ends=st.tuples(st.integers(0, 11), st.integers(1, 12)),
)
def test_any_betas_make_a_consistent_chain(betas, ends):
    process, chain = DDPM(betas=tuple(betas)), ddpm_chain(betas)
    check_pair(process, chain, *ends)
    t = np.arange(process.num_steps + 1)
    np.testing.assert_allclose(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1, rtol=3e-7)


@given(
    steps=st.lists(st.floats(1e-3, 10.0), min_size=2, max_size=12),
    ends=st.tuples(st.integers(0, 11), st.integers(1, 12)),
)
def test_any_rising_sigmas_make_a_consistent_chain(steps, ends):
    sigmas = np.cumsum(steps)
    check_pair(NCSN(sigmas=tuple(sigmas.tolist())), ncsn_chain(sigmas), *ends)


def check_pair(process, chain, s, t):
    t = min(t, process.num_steps)
    s = min(s, t - 1)
    np.testing.assert_allclose(process.transition(s, t), chain.transition(s, t), rtol=2e-6)
    np.testing.assert_allclose(
        (*process.posterior_coefficients(s, t), process.posterior_variance(s, t)), chain.posterior(s, t), rtol=2e-6
    )
