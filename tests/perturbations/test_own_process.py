"""A continuous process given by its path alone: the derived formulas against the closed forms of the shipped ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion.perturbations import DDPM, VE, VP, Continuous, Cosine


@dataclasses.dataclass(frozen=True)
class PathAlone(Continuous):
    """The path of `like`, written in `jax.numpy`, with nothing else defined."""

    like: str

    def path(self, t):
        integral = 0.1 * t + 19.9 * t**2 / 2
        if self.like == "vp":
            return jnp.exp(-integral / 2), jnp.sqrt(-jnp.expm1(-integral))
        if self.like == "ve":
            return jnp.ones_like(t), jnp.where(t == 0, 0.0, 0.02 * (100 / 0.02) ** t)
        angle = 1.5 * t
        return jnp.cos(angle), jnp.sin(angle)


CASES = {"vp": VP(), "ve": VE(t_min=1e-3)}


@pytest.mark.parametrize("name", CASES)
def test_known_times_are_computed_in_float64(name):
    own, closed = PathAlone(name), CASES[name]
    t = np.concatenate([np.linspace(1e-3, 1, 50), [0.5]])
    for mine, theirs in zip(own.exact(t)[1:4], closed.exact(t)[1:4], strict=True):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    assert tuple(float(value) for value in own.exact(0.0)[1:4]) == (1.0, 0.0, np.inf)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("traced", [False, True])
def test_rates_come_from_automatic_differentiation(name, traced):
    own, closed = PathAlone(name), CASES[name]
    t = np.linspace(0.01, 1, 40)
    given = jnp.asarray(t, jnp.float32) if traced else t
    for what in ("log_alpha_slope", "log_snr_slope", "diffusion"):
        # Traced, the formula of g² subtracts two terms that are both rounded.
        rtol = 1e-4 if traced else 1e-6
        np.testing.assert_allclose(getattr(own, what)(given), getattr(closed, what)(given), rtol=rtol, err_msg=what)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("traced", [False, True])
def test_a_short_change_of_log_snr_does_not_cancel(name, traced):
    own, closed = PathAlone(name), CASES[name]
    t = np.float32(np.linspace(0.05, 1, 40))
    for width in (1e-4, 1e-3, 1e-2, 0.04):
        s = t - np.float32(width)
        exact = closed.change(s.astype(np.float64), t.astype(np.float64))[1]
        given = (jnp.asarray(s), jnp.asarray(t)) if traced else (s, t)
        np.testing.assert_allclose(own.log_snr_change(*given), exact, rtol=2e-6, atol=1e-6 if width > 0.01 else 0)
    assert own.log_snr_change(0.0, 0.5) == -np.inf


@pytest.mark.parametrize("name", CASES)
def test_the_inverse_is_found_by_bisection(name):
    own, closed = PathAlone(name), CASES[name]
    t = np.linspace(1e-3, 1, 30)
    np.testing.assert_allclose(own.time_of(closed.exact(t).log_snr), t, rtol=1e-9)
    found = jax.jit(own.time_of)(closed.log_snr(jnp.asarray(t, jnp.float32)))
    np.testing.assert_allclose(found, t, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own.time_of(np.array([1e3, -1e3])), [own.t_min, 1], rtol=1e-6)
    np.testing.assert_allclose(own.scales(closed.log_snr(jnp.float32(0.3))), closed.path(jnp.float32(0.3)), rtol=1e-5)


def test_steps_and_spacings_follow():
    own, closed = PathAlone("vp"), VP()
    for spacing in ("uniform", "log_snr", "karras"):
        np.testing.assert_allclose(own.timesteps(12, spacing), closed.timesteps(12, spacing), rtol=1e-8, atol=1e-10)
    times = closed.timesteps(12, "log_snr")
    for mine, theirs in zip(own.step(times[1:-1], times[:-2]), closed.step(times[1:-1], times[:-2]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_mistakes_are_refused_as_on_the_shipped_processes():
    own = PathAlone("circle")
    with pytest.raises(TypeError, match="takes a float t"):
        own.at(3)
    with pytest.raises(IndexError, match="outside"):
        own.sigma(1.5)
    assert own.prior_sigma == pytest.approx(np.sin(1.5))
    assert own.continuous is own


def test_a_level_and_a_step_are_values():
    process = Cosine(num_steps=10)
    level = process.at(0.5)
    np.testing.assert_allclose(level.noise_to_signal, level.sigma / level.alpha, rtol=1e-6)
    np.testing.assert_allclose(level.norm, 1, rtol=1e-6)
    step = process.step(0.4, 0.5)
    np.testing.assert_allclose((step.scale, step.variance), process.transition(0.4, 0.5))
    np.testing.assert_allclose((step.a, step.b), process.posterior_coefficients(0.4, 0.5))
    np.testing.assert_allclose(step.posterior_variance, process.posterior_variance(0.4, 0.5))


@pytest.mark.parametrize("beta_end", [0.5, 0.9])
def test_ratios_are_finite_where_float32_scales_underflow(beta_end):
    process = DDPM(1000, beta_end=beta_end)
    betas = np.linspace(1e-4, beta_end, 1000)
    t = np.arange(2, 1001)
    step = process.step(t - 1, t)
    # E[x_{t-1} | x_t, x_0], computed in logarithms: alpha-bar of the last levels is below 1e-300.
    log_alpha_bar = np.concatenate([[0], np.cumsum(np.log1p(-betas))])
    variance = -np.expm1(log_alpha_bar)
    b = np.sqrt(1 - betas[1:]) * variance[1:-1] / variance[2:]
    np.testing.assert_allclose(step.b, b, rtol=2e-6)
    np.testing.assert_allclose(step.scale, np.sqrt(1 - betas[1:]), rtol=1e-6)
    assert all(np.all(np.isfinite(part)) for part in step)
