"""Samplers given exact denoisers must give back the data: weights, means and stds of a Gaussian mixture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Chain, ancestral_moments, langevin_moments

from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.samplers import Ancestral, AnnealedLangevin

SAMPLES = 10_000
LINE = (np.array([0.3, 0.7]), np.array([[-0.6], [0.5]]), np.array([0.1, 0.15]))
PLANE = (np.array([0.2, 0.5, 0.3]), np.array([[-0.7, -0.5], [0.6, 0.0], [-0.5, 0.7]]), np.array([0.1, 0.15, 0.08]))
PICTURES = (np.array([0.35, 0.65]), np.array([[-0.5, 0.5, -0.5, 0.5], [0.4, 0.4, -0.4, 0.0]]), np.array([0.1, 0.15]))

COSINE = DDPM(1000, "cosine")
LINEAR = DDPM()
LADDER = NCSN(300, sigma_min=0.01, sigma_max=20.0)
# Langevin needs many steps where sigma / alpha is the size of the data's stds: a geometric ladder, on either process.
SIGMAS = np.geomspace(0.01, 10.0, 50)
ALPHA_BARS = 1 / (1 + np.append(0, SIGMAS) ** 2)
FEW = NCSN(sigmas=SIGMAS)
FEW_DDPM = DDPM(betas=1 - ALPHA_BARS[1:] / ALPHA_BARS[:-1])
LANGEVIN = AnnealedLangevin(steps_per_level=30, step_size=0.1)


def recovered(parts, denoiser_process, sampler, shape):
    """(weights, means, stds) of the samples, each sample counted to the nearest mean."""
    weights, means, stds = parts
    mixture = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in parts))
    x = sampler(mixture.denoiser(denoiser_process), jax.random.key(0), (SAMPLES, *shape))
    assert x.shape == (SAMPLES, *shape)
    x = np.asarray(x, np.float64).reshape(SAMPLES, -1)
    own = np.argmin(((x[:, None] - means) ** 2).sum(-1), axis=1)
    groups = [x[own == k] for k in range(len(weights))]
    return (
        np.array([len(group) / SAMPLES for group in groups]),
        np.array([group.mean(0) for group in groups]),
        np.array([np.sqrt(np.mean((group - group.mean(0)) ** 2)) for group in groups]),
    )


def chain_of(process):
    levels = process.levels  # checked in tests/perturbations
    scale = levels.alphas[1:] / levels.alphas[:-1]
    return Chain(np.append(1, scale), np.append(0, levels.sigmas[1:] ** 2 - (scale * levels.sigmas[:-1]) ** 2))


def made_of(std, process, sampler):
    """The std that a finite number of exact steps makes of one Gaussian: not quite its own."""
    if isinstance(sampler, AnnealedLangevin):
        return np.sqrt(langevin_moments(chain_of(process), sampler, 0.0, std)[1])
    times = process.timesteps(sampler.num_evaluations(process))
    return np.sqrt(list(ancestral_moments(chain_of(process), times, sampler.variance, 0.0, std))[-1][1])


def check(parts, process, sampler, shape):
    weights, means, stds = recovered(parts, process, sampler, shape)
    np.testing.assert_allclose(weights, parts[0], atol=0.02)
    np.testing.assert_allclose(means, parts[1], atol=0.02)
    expected = [made_of(std, process, sampler) for std in parts[2]]
    np.testing.assert_allclose(expected, parts[2], rtol=0.06)  # steps enough to be near the data
    np.testing.assert_allclose(stds, expected, rtol=0.03)


@pytest.mark.parametrize(
    ("process", "variance"),
    [
        pytest.param(COSINE, "large", id="cosine-large", marks=pytest.mark.slow),
        pytest.param(COSINE, "small", id="cosine-small"),
        pytest.param(LINEAR, "large", id="linear-large", marks=pytest.mark.slow),
        pytest.param(LINEAR, "small", id="linear-small", marks=pytest.mark.slow),
        pytest.param(LADDER, "large", id="ncsn-large"),
        pytest.param(LADDER, "small", id="ncsn-small"),
    ],
)
def test_ancestral_with_every_step(process, variance):
    check(PLANE, process, Ancestral(variance=variance, clip_x0=False), (2,))


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("process", [COSINE, LADDER], ids=["cosine", "ncsn"])
def test_ancestral_with_strides(process, variance):
    check(LINE, process, Ancestral(num_steps=290, variance=variance, clip_x0=False), (1,))


@pytest.mark.parametrize(
    ("process", "denoise"),
    [
        pytest.param(FEW, True, id="ncsn-True"),
        pytest.param(FEW, False, id="ncsn-False", marks=pytest.mark.slow),
        pytest.param(FEW_DDPM, True, id="ddpm-True", marks=pytest.mark.slow),
        pytest.param(FEW_DDPM, False, id="ddpm-False"),
    ],
)
def test_annealed_langevin(process, denoise):
    check(LINE, process, dataclasses.replace(LANGEVIN, denoise=denoise), (1,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        (COSINE, Ancestral(clip_x0=False)),
        (LADDER, Ancestral(variance="small", clip_x0=False)),
        (FEW, LANGEVIN),
    ],
)
def test_pictures(process, sampler):
    check(PICTURES, process, sampler, (2, 2, 1))
