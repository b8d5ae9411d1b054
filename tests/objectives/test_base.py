"""The protocol that every objective shares, and objectives of one's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser, UserError
from unified_diffusion.objectives import (
    OBJECTIVES,
    Classification,
    Denoising,
    Hybrid,
    Implicit,
    Objective,
    SingleLevel,
    Sliced,
    Variational,
    as_objective,
)
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.runs.config import read_config, resolve
from unified_diffusion.runs.sections import build

PROCESS = DDPM(10, beta_end=0.3)
X0 = jax.random.normal(jax.random.key(1), (8, 3))
KEY = jax.random.key(0)


def network(x, noise_label, label=None, *, rngs=None):
    return jnp.sin(x) + 0.05 * noise_label[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbsoluteError(Objective):
    """The example of the base class's docstring, with a factor."""

    factor: float = 1.0

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        x_t = denoiser.perturbation.perturb(x0, t, noise)
        return self.factor * jnp.mean(jnp.abs(denoiser(x_t, t, label).x0 - x0), axis=tuple(range(1, x0.ndim))), {}


def test_one_defines_at_alone():
    with pytest.raises(TypeError, match="abstract"):
        Objective()
    objective, denoiser = AbsoluteError(factor=2.0), Denoiser(network, PROCESS)
    loss, metrics = objective(denoiser, X0, KEY)
    time_key, noise_key = jax.random.split(KEY)
    t, noise = PROCESS.draw_times(time_key, 8), jax.random.normal(noise_key, X0.shape)
    np.testing.assert_array_equal(metrics["t"], t)
    np.testing.assert_array_equal(loss, objective.at(denoiser, X0, t, noise)[0])
    np.testing.assert_array_equal(loss, metrics["loss"])
    assert objective.initial_state(PROCESS) is None
    assert objective.weight(PROCESS, t) is objective.effective_weight(PROCESS) is None


def test_ones_own_takes_every_time_sampler_from_a_config():
    fields = {"name": "test_base:AbsoluteError", "factor": "3", "time_sampler": "importance"}
    fields["time_sampler_options.history"] = "2"
    pairs = [(f"objective.{field}", value) for field, value in fields.items()]
    objective = build("objective", resolve(read_config("ddpm_toy.py"), pairs)["objective"])
    assert (objective.factor, objective.time_sampler) == (3.0, "importance")
    state = objective.initial_state(PROCESS)
    assert state.losses.shape == (10, 2)
    _, metrics = objective(Denoiser(network, PROCESS), X0, KEY, None, state)
    assert int(objective.update(state, metrics).count.sum()) == 8


CALLS = [
    (Denoising(), {}),
    (Variational(), {}),
    (Hybrid(), {"variance": "learned"}),
    (Implicit(), {}),
    (Sliced(), {}),
    (Classification(), {}),
]


@pytest.mark.parametrize(("objective", "reading"), CALLS, ids=lambda value: type(value).__name__)
def test_levels_noise_and_the_rest_are_drawn_from_the_three_keys(objective, reading):
    """The bits that recorded runs depend on: a split's keys in this order, whatever else an objective draws."""

    def two(x, noise_label, label=None, *, rngs=None):
        y = network(x, noise_label)
        return jnp.concatenate([y, 0.1 + 0 * y], axis=-1) if reading else y

    denoiser, label = Denoiser(two, PROCESS, **reading), jnp.arange(8) % 3
    time_key, noise_key, own_key = jax.random.split(KEY, 3)
    two_keys, three_keys = (jax.random.key_data(jax.random.split(KEY, number)) for number in (2, 3))
    np.testing.assert_array_equal(two_keys, three_keys[:2])
    t, noise = PROCESS.draw_times(time_key, 8), jax.random.normal(noise_key, X0.shape)
    expected, expected_metrics = objective.at(denoiser, X0, t, noise, label, own_key)
    loss, metrics = objective(denoiser, X0, KEY, label)
    np.testing.assert_array_equal(loss, expected)
    for name, value in expected_metrics.items():
        np.testing.assert_array_equal(metrics[name], value)
    assert set(objective.logged) <= set(metrics)


def test_a_single_level_takes_the_key_for_its_noise():
    denoiser, t = Denoiser(network, PROCESS), jnp.full(8, 4)
    expected, _ = Denoising(weighting="dsm").at(denoiser, X0, t, jax.random.normal(KEY, X0.shape))
    loss, metrics = SingleLevel(level=4, weighting="dsm")(denoiser, X0, KEY)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(metrics["loss"], expected)


@pytest.mark.parametrize("objective", [SingleLevel(level=4), Implicit(level=4)], ids=["single_level", "implicit"])
def test_the_effective_weight_of_one_level_is_there_alone(objective):
    log_snr, effective = objective.effective_weight(NCSN())
    assert np.flatnonzero(effective).tolist() == [3]
    np.testing.assert_allclose(effective[3], 1 / -np.gradient(np.asarray(log_snr, np.float64))[3], rtol=1e-5)


def test_the_bounds_effective_weight_is_that_of_its_weighting():
    np.testing.assert_allclose(
        Variational(variance="small").effective_weight(PROCESS)[1],
        10 * Denoising(weighting="vlb", weighting_options={"variance": "small"}).effective_weight(PROCESS)[1],
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_all_keep_the_protocol(name):
    objective = OBJECTIVES[name]()
    assert isinstance(objective, Objective)
    assert objective.classifies == (name == "classification")
    assert objective.discretized == (name in ("variational", "hybrid"))
    assert objective.needs_reference is False
    assert objective.initial_state(PROCESS) is None
    assert (objective.weight(PROCESS, 3) is None) == (name == "classification")
    assert (objective.effective_weight(PROCESS) is None) == (name == "classification")
    assert as_objective(objective) is objective


def test_the_order_of_arguments_of_version_0_1():
    denoiser, t, noise = Denoiser(network, PROCESS), jnp.full(8, 4), jax.random.normal(KEY, X0.shape)
    for label in (None, jnp.arange(8)):
        expected, _ = Sliced().at(denoiser, X0, t, noise, label, KEY)
        np.testing.assert_array_equal(Sliced().at(denoiser, X0, t, noise, KEY, label)[0], expected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(Objective):
    """The squared distance of x0 from that of a teacher."""

    needs_reference = True

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        x_t = denoiser.perturbation.perturb(x0, t, noise)
        return jnp.mean((denoiser(x_t, t, label).x0 - reference(x_t, t, label).x0) ** 2, axis=1), {}


def test_a_reference_is_asked_for():
    denoiser = Denoiser(network, PROCESS)
    with pytest.raises(UserError, match="Distillation learns from another denoiser: give it as reference="):
        Distillation()(denoiser, X0, KEY)
    np.testing.assert_array_equal(Distillation()(denoiser, X0, KEY, reference=denoiser)[0], np.zeros(8))


def plain(denoiser, x0, key, label=None):
    return jnp.sum(denoiser(x0, 1, label).x0 ** 2, axis=1), {}


@dataclasses.dataclass(frozen=True)
class Talkative:
    """A plain class with some members of the protocol."""

    classifies: bool = True
    logged: tuple = ("size",)
    weight: float = 2.0  # A number is no weighting.

    def __call__(self, denoiser, x0, key, label=None, state=None):
        return jnp.sum(x0, axis=1), {"size": state}

    def initial_state(self, perturbation):
        return jnp.zeros(perturbation.num_steps)

    def update(self, state, metrics):
        return state + 1


def test_a_plain_callable_is_an_objective_with_the_defaults():
    objective, denoiser = as_objective(plain), Denoiser(network, PROCESS)
    assert isinstance(objective, Objective)
    np.testing.assert_array_equal(objective(denoiser, X0, KEY)[0], plain(denoiser, X0, KEY)[0])
    assert (objective.classifies, objective.logged, objective.needs_reference) == (False, (), False)
    assert objective.initial_state(PROCESS) is None
    assert objective.weight(PROCESS, 1) is objective.effective_weight(PROCESS) is None
    assert as_objective(objective) is objective
    with pytest.raises(UserError, match="draws its own noise levels"):
        objective.at(denoiser, X0, jnp.full(8, 1), X0)
    with pytest.raises(UserError, match="3 cannot be called"):
        as_objective(3)


def test_members_of_a_plain_class_are_taken_over():
    objective = as_objective(Talkative())
    assert (objective.classifies, objective.logged) == (True, ("size",))
    state = objective.initial_state(PROCESS)
    assert state.shape == (10,)
    np.testing.assert_array_equal(objective(None, X0, KEY, state=state)[1]["size"], state)
    np.testing.assert_array_equal(objective.update(state, {}), np.ones(10))
    assert objective.weight(PROCESS, 1) is objective.effective_weight(PROCESS) is None
