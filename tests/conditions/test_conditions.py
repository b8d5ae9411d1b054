"""Conditions: their null, their dropout and their check; class labels, and a condition of one's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import UserError
from unified_diffusion.conditions import ClassLabels, Condition, Unconditional, condition_of
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.guidance import Guided
from unified_diffusion.perturbations import DDPM


@dataclasses.dataclass(frozen=True)
class Words(Condition):
    """Vectors `[B, words, size]` and a mask `[B, words]`; nothing is a mask of zeros."""

    words: int

    def of(self, batch):
        return batch["words"], batch["mask"]

    def null(self, value):
        vectors, mask = value
        return vectors, jnp.zeros_like(mask)

    def check(self, value, batch_size):
        if value[1].shape != (batch_size, self.words):
            raise UserError(f"a mask of shape {list(value[1].shape)}: give [B, {self.words}]")
        return value


class Reader:
    """A network whose output is the masked sum of the words' first numbers, everywhere."""

    condition = Words(3)

    def __call__(self, x, noise_label, condition=None, *, rngs=None):
        vectors, mask = condition
        return jnp.broadcast_to(jnp.sum(vectors[..., 0] * mask, axis=1)[:, None], x.shape)


def test_the_condition_of_a_network():
    assert condition_of(lambda x, *_, **__: x) == Unconditional()
    assert condition_of(Reader()) == Words(3)

    def network(x, noise_label, label=None, *, rngs=None):
        return x

    network.num_classes = 4
    assert condition_of(network) == ClassLabels(4)
    assert Denoiser(network, DDPM(10)).no_label == 4


def test_dropout_replaces_whole_examples_by_the_null():
    labels = jnp.arange(10_000) % 7
    dropped = np.asarray(ClassLabels(7).drop(labels, jax.random.key(0), 0.3))
    np.testing.assert_allclose(np.mean(dropped == 7), 0.3, atol=0.02)
    assert np.all((dropped == 7) | (dropped == np.asarray(labels)))
    vectors, mask = jnp.ones((1000, 3, 2)), jnp.ones((1000, 3))
    kept, masked = Words(3).drop((vectors, mask), jax.random.key(0), 0.5)
    np.testing.assert_array_equal(kept, vectors)
    assert set(np.asarray(masked.sum(axis=1)).tolist()) == {0.0, 3.0}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, -1]), "class label -1"),
        (np.array([0, 5]), "class label 5: the classes are 0 to 3, and 4 is none"),
        (np.array([0.0, 1.0]), "class labels are integers, not float64"),
        (np.array([0, 1, 2]), r"class labels of shape \[3\] for 2 examples"),
    ],
)
@pytest.mark.parametrize("library", [np, jnp])
def test_labels_that_are_known_to_be_wrong_are_refused(labels, message, library):
    with pytest.raises(UserError, match=message.replace("float64", "float(64|32)")):
        ClassLabels(4).check(library.asarray(labels), 2)


def test_right_labels_and_traced_ones_pass():
    for labels in (np.array([0, 4]), [1, 2], jnp.array([3, 4]), 2):
        ClassLabels(4).check(labels, 2)
    assert jax.jit(lambda labels: ClassLabels(4).check(labels, 2))(jnp.array([9, 9])).tolist() == [9, 9]


def test_a_network_that_does_not_say_its_classes_cannot_be_told_nothing():
    for condition in (Unconditional(), ClassLabels(None)):
        with pytest.raises(UserError, match="num_classes > 0"):
            condition.null(jnp.array([1]))
    with pytest.raises(UserError, match="at least 1 class"):
        ClassLabels(0)


def test_a_condition_of_ones_own_is_guided_like_labels():
    denoiser = Denoiser(Reader(), DDPM(10))
    words = jnp.arange(12.0).reshape(2, 3, 2), jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    x, t = jnp.ones((2, 5)), np.array([3, 7])
    eps = denoiser(x, t, words).eps
    np.testing.assert_allclose(eps[:, 0], [2.0, 6.0])
    np.testing.assert_allclose(Guided(denoiser, 2.5)(x, t, words).eps, 2.5 * eps)
    np.testing.assert_allclose(denoiser.given(words)(x, t).eps, eps)
    with pytest.raises(UserError, match="a mask of shape"):
        denoiser(x, t, (words[0], words[1][:, :2]))


def test_label_is_another_name_of_the_condition():
    def network(x, noise_label, label=None, *, rngs=None):
        return x * label[:, None]

    network.num_classes = 9
    denoiser, x, label = Denoiser(network, DDPM(10)), jnp.ones((2, 3)), np.array([2, 3])
    np.testing.assert_array_equal(denoiser(x, 1, label=label).eps, denoiser(x, 1, label).eps)
    np.testing.assert_array_equal(Denoiser(network, DDPM(10), label=label)(x, 1).eps, denoiser(x, 1, label).eps)
