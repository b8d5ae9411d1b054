"""Single steps and whole chains on one Gaussian, where every step is linear: against the recursion in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import PROCESSES, ancestral_moments, langevin_moments

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.samplers import Ancestral, AnnealedLangevin, Row
from unified_diffusion.samplers.base import noise_like
from unified_diffusion.samplers.langevin import LangevinRow

MEAN, STD = 0.4, 0.3
GAUSSIAN = GaussianMixture(jnp.ones(1), jnp.full((1, 1), MEAN), jnp.full((1,), STD))


def keys(count, seed=7):
    return jax.random.split(jax.random.key(seed), count)


def x0_hat(x, alpha, variance):
    """E[x_0 | x_t] for data N(MEAN, STD²)."""
    return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + variance) * (x - alpha * MEAN)


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize(
    ("name", "num_steps"), [("ddpm-cosine-short", None), ("ddpm", 12), ("ncsn", None), ("ncsn", 4)]
)
def test_ancestral_moments_after_every_step_on_a_gaussian(name, num_steps, variance):
    process, chain = PROCESSES[name]
    sampler = Ancestral(num_steps=num_steps, variance=variance, clip_x0=False)
    denoiser = GAUSSIAN.denoiser(process)
    count = 40_000
    x = process.sample_prior(jax.random.key(0), (count, 1))
    times = process.timesteps(num_steps or process.num_steps)
    schedule = zip(*sampler.schedule(process), ancestral_moments(chain, times, variance, MEAN, STD), strict=True)
    step = jax.jit(sampler.step)
    for number, (s, t, (mean, var)) in enumerate(schedule):
        x = step(denoiser, x, Row(s, t), keys(count, number))
        assert abs(float(x.mean()) - mean) < 4.5 * np.sqrt(var / count) + 1e-6
        assert abs(float(x.var()) / var - 1) < 4.5 * np.sqrt(2 / count)


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize(("name", "s", "t"), [("ddpm", 499, 500), ("ddpm", 20, 30), ("ncsn", 4, 5), ("ncsn", 2, 9)])
def test_one_ancestral_step_is_the_algorithm(name, s, t, variance):
    process, chain = PROCESSES[name]
    x_t = np.linspace(-1, 1, 8)[:, None]
    a, b, var = chain.posterior(s, t)
    var = chain.transition(s, t)[1] if variance == "large" else var
    alpha, variances = (level[t] for level in chain.marginals())
    z = np.asarray(noise_like(keys(8), jnp.zeros((8, 1))), np.float64)
    exact = a * x0_hat(x_t, alpha, variances) + b * x_t + np.sqrt(var) * z
    sampler = Ancestral(variance=variance, clip_x0=False)
    x_s = sampler.step(GAUSSIAN.denoiser(process), jnp.asarray(x_t, jnp.float32), Row(s, t), keys(8))
    np.testing.assert_allclose(x_s, exact, atol=5e-6)


@pytest.mark.parametrize("process", [DDPM(6), NCSN(6)])
@pytest.mark.parametrize("variance", ["large", "small"])
def test_the_last_ancestral_step_adds_no_noise(process, variance):
    denoiser = Denoiser(lambda x, *_, **__: jnp.full_like(x, 0.25), process, "x0")
    for num_steps in (1, 3, None):
        sampler = Ancestral(num_steps=num_steps, variance=variance)
        np.testing.assert_array_equal(sampler(denoiser, jax.random.key(0), (3, 2)), np.full((3, 2), 0.25))


def test_clipping_keeps_x0_in_range_in_every_step():
    denoiser = Denoiser(lambda x, *_, **__: jnp.array([[5.0, -5.0]]) * jnp.ones_like(x), DDPM(6), "x0")
    np.testing.assert_array_equal(Ancestral()(denoiser, jax.random.key(0), (1, 2)), [[1.0, -1.0]])
    unclipped = Ancestral(clip_x0=False)(denoiser, jax.random.key(0), (1, 2))
    np.testing.assert_array_equal(unclipped, [[5.0, -5.0]])
    x_t = jnp.ones((1, 2))
    a, b = DDPM(6).posterior_coefficients(3, 4)
    mean = Ancestral().step(denoiser, x_t, Row(3, 4), keys(1)) - Ancestral().step(denoiser, 0 * x_t, Row(3, 4), keys(1))
    np.testing.assert_allclose(mean, b * x_t, atol=1e-6)  # the same x0 in both: only x_t's part is left
    unclipped = Ancestral(clip_x0=False).step(denoiser, x_t, Row(3, 4), keys(1))
    jump = unclipped - Ancestral().step(denoiser, x_t, Row(3, 4), keys(1))
    np.testing.assert_allclose(jump, a * np.array([[4.0, -4.0]]), atol=1e-5)


@pytest.mark.parametrize("process", [NCSN(), DDPM(10, "cosine")])
def test_one_langevin_step_has_the_whole_score_and_the_root_of_two(process):
    """x + a score + sqrt(2 a) z with a = step_size sigma_t², and x / alpha kept between levels."""
    x = np.linspace(-1, 1, 8)[:, None]
    sampler = AnnealedLangevin(steps_per_level=2, step_size=0.3)
    z = np.asarray(noise_like(keys(8), jnp.zeros((8, 1))), np.float64)
    denoiser = Denoiser(lambda x, *_, **__: 2 * x + 1, process, "score")
    alphas, sigmas = process.table.alpha, process.table.sigma
    rows = [LangevinRow(*row) for row in zip(*sampler.schedule(process), strict=True)]
    for number in (0, 1, 5, len(rows) - 2):
        s, t, size, noise = rows[number]
        a = 0.3 * sigmas[t] ** 2
        exact = alphas[s] / alphas[t] * (x + a * (2 * x + 1) + np.sqrt(2 * a) * z)
        stepped = sampler.step(denoiser, jnp.asarray(x, jnp.float32), rows[number], keys(8))
        np.testing.assert_allclose(stepped, exact, rtol=2e-6, atol=2e-6)
    # Tweedie, without noise, at the cleanest level: (x + sigma² score) / alpha
    stepped = sampler.step(denoiser, jnp.asarray(x, jnp.float32), rows[-1], keys(8))
    np.testing.assert_allclose(stepped, (x + sigmas[1] ** 2 * (2 * x + 1)) / alphas[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("denoise", [True, False])
def test_the_langevin_schedule(denoise):
    s, t, size, noise = AnnealedLangevin(steps_per_level=3, step_size=0.2, denoise=denoise).schedule(NCSN(4))
    np.testing.assert_array_equal(t, [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1] + [1] * denoise)
    np.testing.assert_array_equal(s, [4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1] + [1] * denoise + [0])
    np.testing.assert_allclose(size, [0.2] * 12 + [1.0] * denoise, rtol=1e-6)
    np.testing.assert_allclose(noise, [np.sqrt(0.4)] * 12 + [0.0] * denoise, rtol=1e-6)


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("name", ["ncsn", "ddpm-cosine-short"])
def test_annealed_langevin_moments_on_a_gaussian(name, denoise):
    process, chain = PROCESSES[name]
    sampler = AnnealedLangevin(steps_per_level=5, step_size=0.2, denoise=denoise)
    count = 40_000
    x = sampler(GAUSSIAN.denoiser(process), jax.random.key(0), (count, 1))
    mean, var = langevin_moments(chain, sampler, MEAN, STD)
    assert abs(float(x.mean()) - mean) < 4.5 * np.sqrt(var / count)
    assert abs(float(x.var()) / var - 1) < 4.5 * np.sqrt(2 / count)


@pytest.mark.parametrize(
    ("sampler", "settings", "message"),
    [
        (Ancestral, {"variance": "larg"}, "variance 'larg': did you mean 'large'"),
        (AnnealedLangevin, {"steps_per_level": 0}, "steps_per_level = 0"),
        (AnnealedLangevin, {"step_size": 0.0}, "step_size = 0"),
        (AnnealedLangevin, {"step_size": 2.0}, "step_size = 2"),
    ],
)
def test_bad_settings_are_refused(sampler, settings, message):
    with pytest.raises(UserError, match=message):
        sampler(**settings)


def test_more_steps_than_levels_are_refused():
    with pytest.raises(UserError, match="1 to 6"):
        Ancestral(num_steps=7)(GAUSSIAN.denoiser(DDPM(6)), jax.random.key(0), (1, 1))
