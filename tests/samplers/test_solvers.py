"""Whole runs of the fast samplers against their papers' algorithms in float64, x by x."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import solvers
from reference import Mixture

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP
from unified_diffusion.samplers import DDIM, PNDM, Ancestral, DPMSolver, Euler, Heun, UniPC
from unified_diffusion.samplers.base import noise_like

PARTS = (np.array([0.2, 0.5, 0.3]), np.array([[-0.7, -0.5], [0.6, 0.0], [-0.5, 0.7]]), np.array([0.3, 0.35, 0.25]))
EXACT = Mixture(*PARTS)
MIXTURE = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in PARTS))
PROCESSES = {
    "ddpm": DDPM(),
    "ddpm-cosine": DDPM(50, "cosine"),
    "ncsn": NCSN(40, sigma_min=0.02, sigma_max=20.0),
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(),
    "cosine": Cosine(),
}
BATCH = 16


def drawn(sampler, process, mixture=MIXTURE, batch=BATCH, dim=2):
    """(x of each step, z of each step) of a run, the noise being the one that the steps are given."""
    steps = sampler.num_steps
    keys = jax.random.split(jax.random.key(5), batch)
    x, _ = sampler.trajectory(mixture.denoiser(process), keys, (batch, dim), frames=steps)
    like = jnp.zeros((batch, dim))
    z = [noise_like(jax.vmap(jax.random.fold_in, (0, None))(keys, n + 1), like) for n in range(steps)]
    return np.asarray(x, np.float64), np.asarray(z, np.float64)


def levels_of(times, process):
    return list(zip(*process.exact(times)[1:3], strict=True))


def exactly(sampler, process, x, z, mixture=EXACT):
    """The same run in float64."""

    def x0(x, alpha, sigma):
        found = mixture.x0(x, alpha, sigma)
        return np.clip(found, -1, 1) if sampler.clip_x0 else found

    process = sampler.process(process)
    times = process.timesteps(sampler.num_steps, sampler.spacing)
    levels = levels_of(times, process)
    settings = dataclasses.asdict(sampler)
    if isinstance(sampler, DDIM):
        return solvers.ddim(x0, levels, x, z, sampler.eta)
    if isinstance(sampler, DPMSolver):
        return solvers.dpm_solver(x0, levels, x, z, sampler.order, sampler.stochastic)
    if isinstance(sampler, UniPC):
        return solvers.unipc(x0, levels, x, sampler.order, sampler.variant)
    if isinstance(sampler, PNDM):
        return solvers.pndm(x0, levels, levels_of((times[1:] + times[:-1]) / 2, process), x)
    churn = {name: value for name, value in settings.items() if name.startswith("churn") and value is not None}
    return solvers.edm(x0, levels, x, z, **churn, second_order=isinstance(sampler, Heun))


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (DDIM(num_steps=7), "ddpm"),
        (DDIM(num_steps=6, eta=0.6, clip_x0=False, spacing="quadratic"), "ddpm-cosine"),
        (Euler(num_steps=6, clip_x0=False), "subvp"),
        (Heun(num_steps=6, clip_x0=False), "cosine"),
        (Heun(num_steps=8, churn=2.5, churn_min=0.1, churn_max=20.0, churn_noise=1.01), "ve"),
        (Heun(num_steps=6, churn=100.0), "vp"),
        (DPMSolver(num_steps=7), "ddpm"),
        (DPMSolver(num_steps=7, order=3, clip_x0=False), "ddpm-cosine"),
        (DPMSolver(num_steps=7, order=3, spacing="quadratic"), "subvp"),
        (DPMSolver(num_steps=7, stochastic=True, clip_x0=False), "ve"),
        (DPMSolver(num_steps=7, order=3, stochastic=True), "vp"),
        (UniPC(num_steps=7), "ddpm"),
        (UniPC(num_steps=7, variant="bh1", clip_x0=False), "ve"),
        (UniPC(num_steps=8, order=3), "ncsn"),
        (PNDM(num_steps=8), "ddpm"),
        (PNDM(num_steps=7, clip_x0=False, spacing="karras"), "ve"),
    ],
    ids=str,
)
def test_a_run_is_the_papers_algorithm(sampler, process):
    process = PROCESSES[process]
    x, z = drawn(sampler, process)
    exact = exactly(sampler, process, x[0], z)
    for found, expected in zip(x, exact, strict=True):
        np.testing.assert_allclose(
            found, expected, atol=(1e-4 if isinstance(sampler, PNDM) else 1e-5) * scale(expected)
        )


def scale(x):
    return np.abs(x).max()


GAUSSIAN_MEAN, GAUSSIAN_STD = 0.4, 0.3
GAUSSIAN = GaussianMixture(jnp.ones(1), jnp.full((1, 1), GAUSSIAN_MEAN), jnp.full((1,), GAUSSIAN_STD))
EXACT_GAUSSIAN = Mixture(np.ones(1), np.full((1, 1), GAUSSIAN_MEAN), np.full((1,), GAUSSIAN_STD))


def moments(sampler, process):
    """Mean and variance of the samples of a Gaussian: a run is affine in the noises, so unit noises one by one tell."""
    count = sampler.num_steps + 1
    units = np.vstack([np.zeros(count), np.eye(count)])[:, :, None]  # of nothing, of the prior, of each step
    prior = sampler.process(process).prior_sigma * units[:, 0]
    out = exactly(sampler, process, prior, units[:, 1:].swapaxes(0, 1), EXACT_GAUSSIAN)[-1]
    return out[0, 0], np.sum((out[1:] - out[0]) ** 2)


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (DDIM(num_steps=40, eta=0.7, spacing="log_snr"), "ddpm"),
        (Euler(num_steps=40, churn=12.0), "cosine"),
        (Heun(num_steps=25, churn=10.0, churn_min=0.05, churn_max=50.0), "ve"),
        (DPMSolver(num_steps=25, stochastic=True), "vp"),
        (DPMSolver(num_steps=25, order=3, stochastic=True), "subvp"),
    ],
    ids=str,
)
def test_stochastic_samplers_keep_the_moments_of_a_gaussian(sampler, process):
    process, sampler, count = PROCESSES[process], dataclasses.replace(sampler, clip_x0=False), 20_000
    x = np.asarray(sampler(GAUSSIAN.denoiser(process), jax.random.key(0), (count, 1)), np.float64)
    mean, variance = moments(sampler, process)
    assert abs(x.mean() - mean) < 4.5 * np.sqrt(variance / count)
    assert abs(x.var() / variance - 1) < 4.5 * np.sqrt(2 / count)
    # and with more steps those come to be the data's
    mean, variance = moments(dataclasses.replace(sampler, num_steps=8 * sampler.num_steps), process)
    np.testing.assert_allclose([mean, np.sqrt(variance)], [GAUSSIAN_MEAN, GAUSSIAN_STD], rtol=0.03)


def final(sampler, process):
    sampler = dataclasses.replace(sampler, clip_x0=False)
    return np.asarray(sampler(MIXTURE.denoiser(process), jax.random.key(1), (BATCH, 2)))


@pytest.mark.parametrize("process", ["ddpm-cosine", "ncsn"])
def test_ddim_with_all_the_noise_is_ancestral_sampling(process):
    process = PROCESSES[process]
    ancestral = final(Ancestral(num_steps=12, variance="small"), process)
    np.testing.assert_allclose(final(DDIM(num_steps=12, eta=1.0), process), ancestral, atol=3e-6)
    if process == PROCESSES["ncsn"]:
        solver = DPMSolver(num_steps=12, order=1, stochastic=True, spacing="uniform")
        np.testing.assert_allclose(final(solver, process), ancestral, atol=3e-6)


def test_first_order_samplers_of_the_ode_are_one():
    process = PROCESSES["subvp"]
    ddim = final(DDIM(num_steps=9, spacing="karras"), process)
    np.testing.assert_allclose(final(Euler(num_steps=9), process), ddim, atol=3e-6)
    np.testing.assert_allclose(final(DPMSolver(num_steps=9, order=1, spacing="karras"), process), ddim, atol=3e-6)


@pytest.mark.parametrize("sampler", [DDIM, Euler, Heun, DPMSolver, UniPC, PNDM])
def test_clipping_is_a_choice(sampler):
    denoiser = Denoiser(lambda x, *_, **__: 5 * jnp.sign(x), VP(), "x0")
    clipped, plain = (sampler(num_steps=5, clip_x0=clip)(denoiser, jax.random.key(0), (2, 3)) for clip in (True, False))
    np.testing.assert_allclose(np.abs(clipped), 1, atol=1e-6)
    np.testing.assert_allclose(np.abs(plain), 5, atol=1e-5)


@pytest.mark.parametrize(
    ("sampler", "settings", "message"),
    [
        (DDIM, {"eta": 1.5}, "eta = 1.5: take 0"),
        (DDIM, {"eta": -0.1}, "eta = -0.1"),
        (Heun, {"churn": -1.0}, "churn = -1.0"),
        (Euler, {"churn_noise": -1.0}, "churn_noise = -1.0"),
        (Heun, {"churn_min": 2.0, "churn_max": 1.0}, "churn_max = 1.0 is below churn_min = 2.0"),
        (DPMSolver, {"order": 4}, "order = 4: take 1, 2 or 3"),
        (DPMSolver, {"order": 0}, "order = 0"),
        (UniPC, {"order": 5}, "UniPC order = 5: take 1, 2 or 3"),
        (UniPC, {"variant": "bh3"}, "UniPC variant 'bh3': did you mean"),
    ],
)
def test_bad_settings_are_refused(sampler, settings, message):
    with pytest.raises(UserError, match=message):
        sampler(**settings)


@pytest.mark.parametrize("sampler", [DDIM, Euler, Heun, DPMSolver, UniPC, PNDM])
def test_step_counts_that_cannot_be_are_refused(sampler):
    for process in (DDPM(6), VP()):
        with pytest.raises(UserError, match="num_steps = 0"):
            sampler(num_steps=0).rows(process)
    with pytest.raises(UserError, match="step spacing 'log_sn'"):
        sampler(spacing="log_sn").rows(VP())
    if not sampler.continuous:  # those have levels between a chain's
        with pytest.raises(UserError, match="num_steps = 7 .* 1 to 6"):
            sampler(num_steps=7).rows(DDPM(6))
