"""Network evaluations of the fast samplers, counted where the network runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser
from unified_diffusion.perturbations import DDPM, NCSN, VE
from unified_diffusion.samplers import DDIM, PNDM, DPMSolver, Euler, Heun, UniPC, generate

PROCESS = VE()


class Counting:
    """A network that counts the calls of each run, and how many examples each shows it."""

    def __init__(self):
        self.traces, self.batches = 0, []

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        self.traces += 1
        jax.debug.callback(lambda x: self.batches.append(len(x)), x)
        return 0.1 * x


def counted(run):
    """(what `run` makes of a counting network, the network)."""
    network = Counting()
    out = jax.block_until_ready(run(network))
    jax.effects_barrier()
    return out, network


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (DDIM(num_steps=7), 7),
        (DDIM(num_steps=7, eta=0.5), 7),
        (Euler(num_steps=7, churn=2.0), 7),
        *((Heun(num_steps=n), 2 * n - 1) for n in (1, 2, 3, 7)),
        (Heun(num_steps=7, churn=2.0), 13),
        (DPMSolver(num_steps=7, stochastic=True), 7),
        *((DPMSolver(num_steps=n, order=3), n) for n in (1, 2, 3, 7)),
        *((UniPC(num_steps=n, order=3), n) for n in (1, 2, 3, 7)),
        *((PNDM(num_steps=n), calls) for n, calls in ((1, 1), (2, 5), (3, 9), (7, 16))),
    ],
    ids=str,
)
def test_evaluations_are_those_that_ran(sampler, expected):
    x, network = counted(lambda network: sampler(Denoiser(network, PROCESS), jax.random.key(0), (3, 2)))
    assert network.batches == [3] * expected
    assert sampler.num_evaluations(PROCESS) == expected
    assert np.all(np.isfinite(x))


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (Heun(num_steps=4), DDPM(20, "cosine")),
        (PNDM(num_steps=5), NCSN(20)),
        (UniPC(num_steps=5, order=3), DDPM(20, "cosine")),
    ],
    ids=["heun", "pndm", "unipc"],
)
def test_each_batch_is_shown_to_the_network_as_often(sampler, process):
    def run(network):
        return generate(sampler, Denoiser(network, process), jax.random.key(0), 5, (2,), batch_size=2)

    _, network = counted(run)
    assert len(network.batches) == 3 * sampler.num_evaluations(process)


@pytest.mark.parametrize("sampler", [DDIM, Euler, Heun, DPMSolver, UniPC, PNDM])
def test_a_single_step_is_x0_hat(sampler):
    denoiser = Denoiser(lambda x, *_, **__: jnp.tanh(x), VE(), "x0")
    frames, _ = sampler(num_steps=1).trajectory(denoiser, jax.random.key(0), (3, 2))
    # PNDM's own form, x - sigma eps, is rounded at the size of sigma = 100
    np.testing.assert_allclose(frames[-1], denoiser(frames[0], np.float32(1)).x0, rtol=1e-5)
    assert len(frames) == 2


@pytest.mark.parametrize("sampler", [Heun(num_steps=4), UniPC(num_steps=4)])
def test_a_second_call_compiles_nothing(sampler):
    network = Counting()
    traces = []
    for seed in range(2):
        sampler(Denoiser(network, DDPM(20)), jax.random.key(seed), (2, 3))
        traces.append(network.traces)
    assert traces[0] == traces[1]
