"""How samplers run: evaluations counted, keys per sample, progress, batches, and one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.samplers import Ancestral, AnnealedLangevin, generate

SAMPLERS = [
    Ancestral(num_steps=12),
    Ancestral(variance="small"),
    AnnealedLangevin(steps_per_level=3),
    AnnealedLangevin(steps_per_level=2, denoise=False),
]
PROCESSES = [DDPM(20, "cosine"), NCSN(20, sigma_min=0.1)]
MIXTURE = GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([[-0.5] * 4, [0.5] * 4]), jnp.array([0.1, 0.2]))
SHAPE = (2, 2, 1)


class Counting:
    """A network that counts its traces, and its evaluations at run time."""

    def __init__(self):
        self.traces, self.calls, self.labels = 0, 0, []

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        self.traces += 1
        jax.debug.callback(self._called, label)
        return 0.1 * x

    def _called(self, label):
        self.calls += 1
        self.labels.append(label)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluations_are_those_that_ran(sampler, process):
    network = Counting()
    jax.block_until_ready(sampler(Denoiser(network, process), jax.random.key(0), (1, 3)))
    jax.effects_barrier()
    assert network.calls == sampler.num_evaluations(process)


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [
        (Ancestral(), 1000),
        (Ancestral(num_steps=50), 50),
        (AnnealedLangevin(steps_per_level=5), 5001),
        (AnnealedLangevin(steps_per_level=5, denoise=False), 5000),
    ],
)
def test_evaluations_in_numbers(sampler, evaluations):
    assert sampler.num_evaluations(DDPM()) == evaluations


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_second_call_compiles_nothing(sampler):
    network = Counting()
    for seed, process in enumerate([DDPM(20), DDPM(20), DDPM(20)]):
        sampler(Denoiser(network, process), jax.random.key(seed), (2, 3))
        if seed == 0:
            first = network.traces
    assert network.traces == first


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "process"), list(zip(SAMPLERS[::2], PROCESSES, strict=True)))
def test_samples_do_not_depend_on_the_batch_size(sampler, process):
    denoiser = MIXTURE.denoiser(process)
    together = generate(sampler, denoiser, jax.random.key(3), 7, SHAPE, batch_size=7)
    assert together.shape == (7, *SHAPE)
    assert together.dtype == np.float32
    apart = generate(sampler, denoiser, jax.random.key(3), 7, SHAPE, batch_size=1)
    np.testing.assert_allclose(apart, together, atol=2e-6)
    fewer = generate(sampler, denoiser, jax.random.key(3), 5, SHAPE, batch_size=4)
    np.testing.assert_allclose(fewer, together[:5], atol=2e-6)
    assert len({sample.tobytes() for sample in together}) == 7


def test_the_same_key_gives_the_same_bits_and_another_key_others():
    denoiser = MIXTURE.denoiser(PROCESSES[0])
    one, same, other = (Ancestral()(denoiser, jax.random.key(seed), (3, *SHAPE)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.all(one != other)
    # one key for the batch is fold_in(key, i) for sample i
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(3))
    np.testing.assert_array_equal(Ancestral()(denoiser, keys, (3, *SHAPE)), one)


def test_noise_is_fresh_in_every_step_and_not_the_priors():
    process = NCSN(sigmas=(1.0, 2.0, 3.0))
    drawn = []

    class Recording(AnnealedLangevin):
        def step(self, denoiser, x_t, row, key):
            drawn.append(jax.random.key_data(key))
            return super().step(denoiser, x_t, row, key)

    with jax.disable_jit():
        Recording(steps_per_level=2, denoise=False)(Denoiser(lambda x, *_, **__: x, process), jax.random.key(0), (2, 1))
    assert len({tuple(key) for step in drawn for key in np.asarray(step).tolist()}) == 6 * 2


def test_each_sample_may_bring_its_own_key():
    denoiser = MIXTURE.denoiser(PROCESSES[0])
    sampler = Ancestral(num_steps=3)
    keys = jax.random.split(jax.random.key(1), 5)
    together = generate(sampler, denoiser, keys, 5, SHAPE, batch_size=2)
    np.testing.assert_allclose(together, sampler(denoiser, keys, (5, *SHAPE)), atol=2e-6)


@pytest.mark.parametrize("num_steps", [1, 7, 101, 1000])
def test_progress_tells_every_step_and_changes_no_bit(num_steps):
    process = DDPM(1000)
    denoiser = MIXTURE.denoiser(process)
    told = []
    sampler = Ancestral(num_steps=num_steps)
    watched = sampler(denoiser, jax.random.key(0), (2, *SHAPE), progress=told.append)
    assert sum(told) == num_steps
    assert len(told) >= min(10, num_steps)
    assert len(told) <= 50
    np.testing.assert_array_equal(watched, sampler(denoiser, jax.random.key(0), (2, *SHAPE)))


def test_generate_tells_the_steps_of_all_batches():
    told = []
    sampler = Ancestral(num_steps=12)
    generate(sampler, MIXTURE.denoiser(PROCESSES[0]), jax.random.key(0), 7, SHAPE, batch_size=3, progress=told.append)
    assert sum(told) == 3 * 12


def test_labels_reach_the_network():
    network = Counting()
    sampler = Ancestral(num_steps=2)
    denoiser = Denoiser(network, DDPM(5))
    sampler(denoiser, jax.random.key(0), (3, 2), label=np.array([4, 5, 6])).block_until_ready()
    jax.effects_barrier()
    assert [label.tolist() for label in network.labels] == [[4, 5, 6]] * 2


def test_generate_gives_each_sample_its_own_label():
    def network(x, noise_label, label=None, *, rngs=None):
        return 0 * x + label[:, None] / 10

    denoiser = Denoiser(network, DDPM(5), "x0")
    samples = generate(Ancestral(), denoiser, jax.random.key(0), 7, (1,), batch_size=3, labels=np.arange(7))
    np.testing.assert_allclose(samples[:, 0], np.arange(7) / 10, rtol=1e-6)
