"""DDIM's latents, against its own formula in float64 and the flow's closed form; and the way between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.inversion import decode, encode, interpolate, slerp
from unified_diffusion.perturbations import DDPM, NCSN, VP

MEAN, STD = np.array([0.3, -0.5]), 0.4
GAUSSIAN = GaussianMixture(jnp.ones(1), jnp.asarray(MEAN[None], jnp.float32), jnp.full(1, STD))
X0 = np.random.default_rng(0).normal(MEAN, STD, (6, 2)).astype(np.float32)
PROCESSES = [DDPM(100, "linear", 1e-3, 0.2), NCSN(40, sigma_min=0.02, sigma_max=10.0), VP()]


def exact_steps(process, x, path, read):
    """DDIM along the times of `path`, eps and x0 of the Gaussian from their definitions, in float64."""
    x = np.asarray(x, np.float64)
    for stop, at in zip(path, read, strict=True):
        alpha, sigma, _ = (float(v) for v in process.exact(at)[1:4])
        x0 = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        eps = (x - alpha * x0) / sigma
        alpha, sigma = (1.0, 0.0) if stop == 0 else (float(v) for v in process.exact(stop)[1:3])
        x = alpha * x0 + sigma * eps
    return x


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_up_and_down_are_ddims_steps(process):
    times = process.timesteps(20)
    rising = times[::-1]
    denoiser = GAUSSIAN.denoiser(process)
    latent = encode(denoiser, X0, num_steps=20)
    read = [rising[1], *rising[1:-1]]
    np.testing.assert_allclose(latent, exact_steps(process, X0, rising[1:], read), rtol=2e-4, atol=2e-4)
    back = decode(denoiser, latent, num_steps=20)
    np.testing.assert_allclose(back, exact_steps(process, latent, times[1:], times[:-1]), rtol=2e-4, atol=2e-4)


def test_an_image_comes_back_the_better_the_more_steps_there_are():
    """At first order, and the latent goes to the probability flow's: the standardised distance from the mean."""
    process = VP()
    denoiser = GAUSSIAN.denoiser(process)
    errors, misses = [], []
    for num_steps in (50, 100, 200):
        latent = encode(denoiser, X0, num_steps=num_steps)
        errors.append(np.abs(decode(denoiser, latent, num_steps=num_steps) - X0).mean())
        misses.append(np.abs(latent - (X0 - MEAN) / STD).mean())
    for measured in (errors, misses):
        ratios = np.array(measured[:-1]) / measured[1:]
        assert np.all((ratios > 1.5) & (ratios < 2.6)), measured
    assert errors[-1] < 0.02


def test_clipped_x0_keeps_a_wild_network_in_bounds():
    """eps of a network that errs: where little of the data is left, x0_hat is out of all bounds."""

    def network(x, noise_label, label=None, *, rngs=None):
        return 0.9 * x

    denoiser = Denoiser(network, DDPM(100, "cosine"))
    x = decode(denoiser, jax.random.normal(jax.random.key(0), (4, 3)), num_steps=100, clip_x0=True)
    assert np.abs(x).max() <= 1
    assert np.abs(decode(denoiser, jax.random.normal(jax.random.key(0), (4, 3)), num_steps=100)).max() > 5


def test_slerp():
    a, b = jnp.array([[3.0, 0.0], [0.0, 2.0]]), jnp.array([[0.0, 3.0], [0.0, 2.0]])
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-6)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-6)
    third = [3 * np.cos(np.pi / 6), 3 * np.sin(np.pi / 6)]
    np.testing.assert_allclose(slerp(a, b, 1 / 3), [third, [0, 2]], atol=1e-6)
    # Of independent noise it is noise of the same variance, which the straight line is not.
    x, y = jax.random.normal(jax.random.key(0), (2, 50, 8, 8, 1))
    assert abs(float(jnp.var(slerp(x, y, 0.5))) - 1) < 0.06
    assert float(jnp.var((x + y) / 2)) < 0.6


def test_the_way_goes_from_one_to_the_other():
    denoiser = GAUSSIAN.denoiser(VP())
    way = interpolate(denoiser, X0[:3], X0[3:], 5, num_steps=100)
    assert way.shape == (3, 5, 2)
    np.testing.assert_allclose(way[:, 0], X0[:3], atol=0.05)
    np.testing.assert_allclose(way[:, -1], X0[3:], atol=0.05)
    # The flow of a Gaussian is a scaling about its mean: the way in between is the latents' arc.
    middle = MEAN + STD * slerp((X0[:3] - MEAN) / STD, (X0[3:] - MEAN) / STD, 0.5)
    np.testing.assert_allclose(way[:, 2], middle, atol=0.06)
