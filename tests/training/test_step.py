"""The train step against the same arithmetic written out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unified_diffusion import perturbations
from unified_diffusion.training import initial_state, initialise, make_train_step, scan_steps


class Linear(nnx.Module):
    def __init__(self, dropout=0.0):
        self.kernel = nnx.Param(jnp.asarray([[0.5, -0.2], [0.1, 0.3]]))
        self.dropout = dropout

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        y = x @ self.kernel[...]
        if label is not None:
            y = y + label[:, None]
        if rngs is None or not self.dropout:
            return y
        return y * jax.random.bernoulli(rngs.dropout(), 1 - self.dropout, y.shape)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A loss without randomness: ‖kernel x0‖² + label, read through the denoiser's eps."""

    scale: float = 1.0

    def __call__(self, denoiser, x0, key, label=None):
        eps = denoiser(x0, 1, label).eps
        return self.scale * jnp.sum(eps**2, axis=1), {}


def make(scale=1.0, conditional=False, optimizer=None, **options):
    optimizer = optimizer or optax.sgd(0.1)
    model, params = initialise(
        lambda rngs: Linear(), jax.random.key(0), perturbations.DDPM(num_steps=10), conditional=conditional
    )
    return make_train_step(model, Fixed(scale), optimizer, **options), initial_state(params, optimizer)


def kernel(params):
    return np.asarray(jax.tree.leaves(params)[0])


X0 = np.asarray([[1.0, 2.0], [-0.5, 0.3], [0.2, 0.1]], np.float32)
KEY = jax.random.key(0)


def gradient(weights, x0=X0):
    """d/dW of the batch's mean of ‖x W‖², float64."""
    x0 = x0.astype(np.float64)
    return 2 * x0.T @ x0 @ weights / len(x0)


def test_one_step_of_gradient_descent_and_its_average():
    step, state = make(ema_decay=0.9)
    start = kernel(state.params)
    after, metrics = jax.jit(step)(state, {"x0": X0}, KEY)
    expected = start - 0.1 * gradient(start)
    np.testing.assert_allclose(kernel(after.params), expected, rtol=1e-6)
    # At n = 0 the average's decay is (1 + 0) / (10 + 0).
    np.testing.assert_allclose(kernel(after.ema), 0.1 * start + 0.9 * expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], np.mean(np.sum((X0 @ start) ** 2, axis=1)), rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient(start)), rtol=1e-6)
    assert int(after.step) == 1


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_follows_its_recursion(decay):
    step, state = make(ema_decay=decay)
    average = kernel(state.ema).astype(np.float64)
    for n in range(30):
        state, _ = jax.jit(step)(state, {"x0": X0}, KEY)
        d = min(decay, (1 + n) / (10 + n))
        average = d * average + (1 - d) * kernel(state.params)
    np.testing.assert_allclose(kernel(state.ema), average, rtol=1e-5)
    if decay == 0:
        np.testing.assert_array_equal(kernel(state.ema), kernel(state.params))


def test_clipping_is_of_the_mean_gradient():
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(1.0))
    step, state = make(scale=100.0, optimizer=optimizer)
    start = kernel(state.params)
    after, metrics = step(state, {"x0": X0}, KEY)
    full = 100 * gradient(start)
    np.testing.assert_allclose(kernel(after.params), start - 0.5 * full / np.linalg.norm(full), rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(full), rtol=1e-5)


def test_labels_reach_a_conditional_network_alone():
    batch = {"x0": X0, "label": np.asarray([1, 2, 3], np.int32)}
    losses = {}
    for conditional in (False, True):
        step, state = make(conditional=conditional)
        losses[conditional] = float(step(state, batch, KEY)[1]["loss"])
    weights = kernel(make()[1].params)
    np.testing.assert_allclose(losses[False], np.mean(np.sum((X0 @ weights) ** 2, axis=1)), rtol=1e-6)
    shifted = X0 @ weights + batch["label"][:, None]
    np.testing.assert_allclose(losses[True], np.mean(np.sum(shifted**2, axis=1)), rtol=1e-6)


def test_images_arrive_as_uint8():
    image = np.asarray([[0, 255], [51, 102], [255, 0]], np.uint8)
    step, state = make()
    loss = float(step(state, {"x0": image}, KEY)[1]["loss"])
    x0 = image / 127.5 - 1
    np.testing.assert_allclose(loss, np.mean(np.sum((x0 @ kernel(state.params)) ** 2, axis=1)), rtol=1e-6)


def test_dequantized_images_get_new_noise_each_step():
    step, state = make(dequantized=True, optimizer=optax.sgd(0.0))
    losses = []
    for _ in range(3):
        state, metrics = step(state, {"x0": np.full((3, 2), 128, np.uint8)}, KEY)
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) == 3


def test_scanned_steps_are_the_same_steps():
    step, state = make(ema_decay=0.9)
    batches = np.stack([X0, 2 * X0, X0 - 1])
    one = state
    losses = []
    for x0 in batches:
        one, metrics = step(one, {"x0": x0}, KEY)
        losses.append(metrics["loss"])
    many, metrics = jax.jit(scan_steps(step))(state, {"x0": batches}, KEY)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_dropout_is_on_in_training_and_differs_by_step():
    model, params = initialise(lambda rngs: Linear(dropout=0.5), jax.random.key(0), perturbations.DDPM(num_steps=10))
    step = make_train_step(model, Fixed(), optax.sgd(0.0))
    state = initial_state(params, optax.sgd(0.0))
    losses = []
    for _ in range(4):
        state, metrics = step(state, {"x0": np.ones((64, 2), np.float32)}, KEY)
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) > 1
