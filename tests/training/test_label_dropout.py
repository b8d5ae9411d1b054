"""Label dropout: how often a label is left out, and what stands in its place."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unified_diffusion import UserError, perturbations
from unified_diffusion.training import Training, initial_state, initialise, make_train_step

CLASSES, BATCH = 4, 20_000
LABEL = np.random.default_rng(0).integers(CLASSES, size=BATCH).astype(np.int32)
DATA = {"x0": np.stack([LABEL, LABEL], axis=1).astype(np.float32), "label": LABEL}


class Labelled(nnx.Module):
    def __init__(self, num_classes=CLASSES):
        self.num_classes = num_classes
        self.weight = nnx.Param(jnp.ones(()))

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        return x * self.weight[...]


@dataclasses.dataclass(frozen=True)
class Told:
    """Each label that it is given, beside the one that the data have in x0."""

    logged: ClassVar[tuple[str, ...]] = ("kept", "dropped", "sum")

    def __call__(self, denoiser, x0, key, label=None):
        told = {"kept": label == x0[:, 0], "dropped": label == CLASSES, "sum": label}
        return jnp.sum(denoiser(x0, 1, label).eps, axis=1), told


def run(rate, steps=2, conditional=True, num_classes=CLASSES):
    process, optimizer = perturbations.DDPM(num_steps=10), optax.sgd(0.0)
    model, params = initialise(lambda rngs: Labelled(num_classes), jax.random.key(0), process, conditional=conditional)
    step = jax.jit(make_train_step(model, Told(), optimizer, label_dropout=rate))
    state, found = initial_state(params, optimizer), []
    for _ in range(steps):
        state, metrics = step(state, DATA, jax.random.key(0))
        found.append({name: float(value) for name, value in metrics.items()})
    return found


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_labels_are_left_out_at_the_rate(rate):
    first, second = run(rate)
    for metrics in (first, second):
        np.testing.assert_allclose(metrics["dropped"], rate, atol=4 * np.sqrt(rate * (1 - rate) / BATCH))
        np.testing.assert_allclose(metrics["kept"] + metrics["dropped"], 1, atol=1e-6)
    assert first["sum"] != second["sum"]  # other labels in every step


def test_without_it_every_label_arrives():
    (metrics,) = run(0.0, steps=1)
    assert (metrics["kept"], metrics["dropped"]) == (1, 0)


def test_it_needs_a_network_that_knows_its_classes():
    with pytest.raises(UserError, match="num_classes > 0"):
        run(0.1, num_classes=0)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_out_of_range(rate):
    with pytest.raises(UserError, match="label_dropout"):
        Training(label_dropout=rate)
