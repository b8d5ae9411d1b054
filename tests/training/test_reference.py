"""An objective that learns from the averaged parameters: the train step hands it their denoiser."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unified_diffusion import data, perturbations
from unified_diffusion.objectives import Objective
from unified_diffusion.training import Optimizer, Training, initial_state, initialise, make_train_step, train

PROCESS = perturbations.DDPM(num_steps=10)
X0 = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
KEY = jax.random.key(0)


class Scale(nnx.Module):
    """A network of one parameter: eps_hat = scale x."""

    def __init__(self, dropout=0.0):
        self.scale, self.dropout = nnx.Param(jnp.asarray(0.5)), dropout

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        y = self.scale[...] * x
        return y if rngs is None or not self.dropout else y * jax.random.bernoulli(rngs.dropout(), 0.5, y.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ahead(Objective):
    """The squared distance of eps from 1 plus that of the average, E[(s x - (m x + 1))²]: a moving target."""

    needs_reference: ClassVar[bool] = True
    logged: ClassVar[tuple[str, ...]] = ("teacher", "x")

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        assert reference.dropout_key is None
        x_t = denoiser.perturbation.perturb(x0, t, noise)
        teacher = reference(x_t, t, label).eps
        difference = denoiser(x_t, t, label).eps - (teacher + 1)
        return jnp.mean(difference**2, axis=1), {"teacher": jnp.mean(teacher, axis=1), "x": jnp.mean(x_t, axis=1)}


def scale(params):
    return float(jax.tree.leaves(params)[0])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_teacher_is_the_average_without_gradient_and_dropout(dropout):
    model, params = initialise(lambda rngs: Scale(dropout), KEY, PROCESS)
    optimizer = optax.sgd(0.1)
    step = jax.jit(make_train_step(model, Ahead(), optimizer, ema_decay=0.9))
    state = initial_state(params, optimizer)
    for n in range(4):
        before = state
        state, metrics = step(state, {"x0": X0}, KEY)
        # The average of before the step is the teacher, and of it alone.
        np.testing.assert_allclose(metrics["teacher"], scale(before.ema) * metrics["x"], rtol=1e-4, atol=1e-6)
        if n and not dropout:
            assert scale(before.ema) != scale(before.params)
    if not dropout:  # a gradient into the teacher would cancel that into the pupil where both are equal
        assert scale(state.params) != pytest.approx(0.5, abs=1e-3)


def test_the_gradient_is_the_pupils_alone():
    """d/ds E[((s - m) x - 1)²] = 2 E[((s - m) x - 1) x], which is -2 E[x] at s = m."""
    model, params = initialise(lambda rngs: Scale(), KEY, PROCESS)
    optimizer = optax.sgd(1.0)
    step = jax.jit(make_train_step(model, Ahead(), optimizer))
    state, metrics = step(initial_state(params, optimizer), {"x0": X0}, KEY)
    np.testing.assert_allclose(scale(state.params) - 0.5, 2 * metrics["x"], rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], 1, rtol=1e-6)


def test_it_trains_in_the_loop_and_goes_on_bit_for_bit(tmp_path):
    def run(workdir, steps):
        model, params = initialise(lambda rngs: Scale(), KEY, PROCESS)
        training = Training(steps=steps, batch_size=16, ema_decay=0.9, log_every=5, checkpoint_every=5)
        optimizer = Optimizer(learning_rate=1e-2, warmup_steps=0)
        return train(model, params, Ahead(), optimizer, data.Dataset(X0), training, workdir, seed=0)[0]

    whole = run(tmp_path / "whole", 12)
    for steps in (7, 12):
        parts = run(tmp_path / "parts", steps)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert scale(whole.params) != 0.5
