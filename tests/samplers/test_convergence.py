"""Order of convergence, and the common limit: the probability-flow ODE, solved by SciPy with the exact mixture.

In float32, as the samplers run: at these numbers of steps even the third order's errors are well above its rounding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Mixture
from scipy.integrate import solve_ivp

from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP
from unified_diffusion.samplers import DDIM, PNDM, DPMSolver, Euler, Heun, UniPC

PARTS = (np.array([0.2, 0.5, 0.3]), np.array([[-0.7, -0.5], [0.6, 0.0], [-0.5, 0.7]]), np.array([0.3, 0.35, 0.25]))
GAUSSIAN = (np.ones(1), np.array([[0.4, -0.2]]), np.array([0.3]))
SHAPE = (16, 2)


@functools.cache
def prior(process):
    return np.asarray(process.sample_prior(jax.random.key(0), SHAPE))


@functools.cache
def limit(process):
    """x0_hat at the first level, where dx/dsigma = (x - x0_hat) / sigma, in x / alpha and sigma / alpha, ends."""
    mixture = Mixture(*PARTS)
    _, alpha, sigma, *_ = process.exact(process.times[[-1, 0]])
    last, first = sigma / alpha

    def slope(log_sigma, x):
        x = x.reshape(SHAPE)
        return (x - mixture.x0(x, 1.0, np.exp(log_sigma))).ravel()

    start = (prior(process) / alpha[0]).astype(np.float64).ravel()
    solved = solve_ivp(slope, np.log([last, first]), start, method="DOP853", rtol=1e-9, atol=1e-10)
    return mixture.x0(solved.y[:, -1].reshape(SHAPE), 1.0, first)


def distances(sampler, process, expected, all_steps, parts=PARTS, **settings):
    """Root mean square distance to what is expected, with each of these numbers of steps; one compilation for all."""
    sampler = functools.partial(sampler, clip_x0=False, **settings)
    process = sampler().process(process)
    denoiser = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in parts)).denoiser(process)
    keys = jax.random.split(jax.random.key(1), SHAPE[0])
    step = jax.jit(sampler().advance)
    found = []
    for num_steps in all_steps:
        taken = sampler(num_steps=num_steps)
        x = jnp.asarray(prior(process))
        memory, rows = taken.memory(x), taken.rows(process)
        for number in range(len(rows.s)):
            row = jax.tree.map(lambda column, number=number: column[number], rows)
            x, memory = step(denoiser, x, memory, row, keys)
        found.append(np.sqrt(np.mean((np.asarray(x, np.float64) - expected) ** 2)))
    return np.array(found)


@pytest.mark.parametrize(
    ("order", "sampler", "settings"),
    [
        (1, DDIM, {"spacing": "log_snr"}),
        (1, Euler, {}),
        (2, Heun, {}),
        (2, PNDM, {}),
        (1, DPMSolver, {"order": 1}),
        (2, DPMSolver, {"order": 2}),
        (3, DPMSolver, {"order": 3}),
        (2, UniPC, {"order": 1}),
        (3, UniPC, {"order": 2}),
        (3, UniPC, {"order": 2, "variant": "bh1"}),
        (4, UniPC, {"order": 3}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_order_of_convergence(order, sampler, settings):
    process = VP()
    steps = [40, 56, 80]
    errors = distances(sampler, process, limit(process), steps, **settings)
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.3


# (sampler, settings, steps, how near to the limit they come)
DETERMINISTIC = [
    (DDIM, {"spacing": "karras"}, 250, 1.4e-2),  # and so Euler, which is the same
    (Heun, {}, 100, 3e-3),
    (DPMSolver, {"order": 3}, 60, 4e-4),
    (UniPC, {"order": 3}, 60, 2e-4),
    (PNDM, {}, 100, 6e-4),
]


@pytest.mark.parametrize("process", [DDPM(), NCSN(500, sigma_min=0.02, sigma_max=20.0), VE(sigma_max=20.0), Cosine()])
def test_deterministic_samplers_have_one_limit(process):
    for sampler, settings, num_steps, bound in DETERMINISTIC:
        (distance,) = distances(sampler, process, limit(process), [num_steps], **settings)
        assert distance < bound, (sampler, distance)


@pytest.mark.parametrize(
    ("process", "sampler", "settings", "bound"),
    [
        (VE(), DDIM, {"spacing": "karras"}, 1.5e-2),
        (DDPM(), Heun, {}, 1e-3),
        (SubVP(), DPMSolver, {"order": 3}, 1e-5),
        (Cosine(), UniPC, {"order": 3}, 1e-5),
        (NCSN(200, sigma_min=0.02, sigma_max=20.0), PNDM, {}, 1e-4),
    ],
)
def test_a_gaussian_flows_in_closed_form(process, sampler, settings, bound):
    """(x / alpha - mean) shrinks as sqrt(std² + (sigma / alpha)²), and x0_hat once more."""
    _, mean, std = GAUSSIAN
    _, alpha, sigma, *_ = process.exact(process.times[[-1, 0]])
    last, first = std[0] ** 2 + (sigma / alpha) ** 2
    expected = mean + std**2 / np.sqrt(first * last) * (prior(process) / alpha[0] - mean)
    (distance,) = distances(sampler, process, expected, [100], GAUSSIAN, **settings)
    assert distance < bound
