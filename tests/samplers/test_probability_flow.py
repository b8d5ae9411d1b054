"""The probability flow: where it leads, in closed form, and what it took."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP
from unified_diffusion.samplers import Ancestral, ProbabilityFlow, generate

MEAN, STD = np.array([0.3, -0.5, 0.1]), 0.25
GAUSSIAN = GaussianMixture(jnp.ones(1), jnp.asarray(MEAN[None], jnp.float32), jnp.full(1, STD))
PROCESSES = [VP(), SubVP(), VE(), Cosine(), DDPM(100, "cosine"), NCSN(20)]


def led_to(x_T, process):
    """x / alpha at the first level, of data N(MEAN, STD²): the distance from the mean scales as its deviation does."""
    process = process.continuous
    first, last = (float(np.exp(-process.exact(t).log_snr / 2)) for t in process.times[[0, -1]])
    alpha = float(process.exact(process.times[-1]).alpha)
    return MEAN + (np.asarray(x_T, np.float64) / alpha - MEAN) * np.hypot(STD, first) / np.hypot(STD, last)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_it_leads_where_the_closed_form_does(process):
    sampler = ProbabilityFlow(rtol=1e-5, atol=1e-5, num_segments=2, denoise=False)
    x, t = sampler.trajectory(GAUSSIAN.denoiser(process), jax.random.key(0), (16, 3))
    np.testing.assert_allclose(x[-1], led_to(x[0], process), atol=5e-4)
    assert t[0] == process.continuous.times[-1]
    np.testing.assert_allclose(t[-2:], [process.continuous.times[0], 0], rtol=1e-6)


class Counting:
    """The exact network, which counts its calls at run time."""

    def __init__(self, process):
        self.network, self.calls = GAUSSIAN.denoiser(process).network, 0

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        jax.debug.callback(self._called)
        return self.network(x, noise_label)

    def _called(self):
        self.calls += 1


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize(
    "sampler",
    [
        ProbabilityFlow(),
        ProbabilityFlow(solver="heun", rtol=1e-2, atol=1e-2, num_segments=3),
        ProbabilityFlow(solver="dopri8", denoise=False, rtol=1e-2, atol=1e-3),
    ],
)
def test_evaluations_are_those_that_ran(sampler, batch):
    """A sample's are its own, and a batch of one segment runs until its slowest sample is there."""
    process = VP()
    network = Counting(process)
    _, evaluations = sampler.run(Denoiser(network, process, prediction="x0"), jax.random.key(0), (batch, 3))
    jax.effects_barrier()
    assert evaluations.shape == (batch,)
    if batch == 1 or sampler.num_segments == 1:
        assert network.calls == evaluations.max()
    assert 0 < evaluations.min() <= evaluations.max() <= sampler.num_evaluations(process)


def test_the_most_it_may_take_is_a_bound_that_can_be_reached():
    process = VP()
    network = Counting(process)
    denoiser = Denoiser(network, process, prediction="x0")
    taken = int(ProbabilityFlow().run(denoiser, jax.random.key(0), (1, 3))[1][0])
    assert (taken - 2) % 6 == 0
    steps = (taken - 2) // 6
    exactly = ProbabilityFlow(max_steps=steps)
    assert exactly.num_evaluations(process) == taken
    assert exactly.run(denoiser, jax.random.key(0), (1, 3))[1][0] == taken
    with pytest.raises(UserError, match=f"1 of 1 examples did not come .* max_steps = {steps - 1} steps"):
        ProbabilityFlow(max_steps=steps - 1)(denoiser, jax.random.key(0), (1, 3))


def test_smaller_tolerances_take_more_evaluations_and_err_less():
    process, errors, taken = VP(), [], []
    for tolerance in (1e-2, 1e-4):
        sampler = ProbabilityFlow(rtol=tolerance, atol=tolerance, denoise=False)
        arguments = GAUSSIAN.denoiser(process), jax.random.key(0), (32, 3)
        x, evaluations = sampler.run(*arguments)
        prior, *_ = next(sampler.states(*arguments))
        errors.append(np.abs(x - led_to(prior, process)).mean())
        taken.append(evaluations.mean())
    assert errors[1] < errors[0] / 10
    assert taken[1] > taken[0]


def test_a_batch_says_what_each_sample_took():
    denoiser, taken, fixed = GAUSSIAN.denoiser(DDPM(50)), [], []
    samples = generate(ProbabilityFlow(), denoiser, jax.random.key(0), 7, (3,), batch_size=4, evaluations=taken)
    assert len(taken) == 7
    other = generate(ProbabilityFlow(), denoiser, jax.random.key(0), 7, (3,), batch_size=7)
    np.testing.assert_allclose(samples, other, atol=1e-4)
    generate(Ancestral(num_steps=5), denoiser, jax.random.key(0), 3, (3,), batch_size=2, evaluations=fixed)
    assert fixed == [5, 5, 5]


def test_each_sample_has_its_own_label():
    def network(x, noise_label, label=None, *, rngs=None):
        return jnp.broadcast_to(label[:, None].astype(jnp.float32), x.shape)

    denoiser = Denoiser(network, VP(), prediction="x0")
    x = ProbabilityFlow(denoise=False)(denoiser, jax.random.key(0), (3, 2), jnp.array([-1, 0, 2]))
    # the first level's noise is left in them
    np.testing.assert_allclose(x, np.array([-1.0, 0.0, 2.0])[:, None] * np.ones(2), atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "rk45"}, "unknown ODE solver"),
        ({"rtol": 0.0, "atol": 0.0}, "one must be above 0"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"num_segments": 0}, "num_segments = 0"),
    ],
)
def test_settings_that_are_none(options, message):
    with pytest.raises(UserError, match=message):
        ProbabilityFlow(**options)
