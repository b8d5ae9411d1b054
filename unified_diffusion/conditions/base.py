"""The base class of conditions."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

# A value is a pytree of arrays whose first axis is the batch: integers `[B]` for class labels, token ids and a mask
# for text.
Value = Any


class Condition(abc.ABC):
    """A kind of thing that a network is told beside x_t and t, such as class labels.

    The values of a condition are pytrees of arrays with one entry per example, or None where nothing is told. A
    subclass defines `of`, `null` and `check`. All code for training, sampling and guidance calls these three methods
    alone, so that it works for any kind of condition. For example, a picture that the network is told, with black for
    no picture:

        class Picture(Condition):
            def of(self, batch):
                return batch["picture"]

            def null(self, value):
                return jnp.full_like(value, -1.0)

            def check(self, value, batch_size):
                return jnp.asarray(value)

    Attributes:
        told: whether the network is told anything at all.
    """

    told: bool = True

    @abc.abstractmethod
    def of(self, batch: dict) -> Value:
        """Returns the value in a batch of data, `{"x0": …, "label": …}`; None for a network that is told nothing."""

    @abc.abstractmethod
    def null(self, value: Value) -> Value:
        """Returns the value that tells the network nothing, shaped like `value`. Ho & Salimans 2022 write it as ∅.

        Raises:
            UserError: the network cannot be told nothing.
        """

    @abc.abstractmethod
    def check(self, value: Value, batch_size: int) -> Value:
        """Returns the value as arrays, and refuses a value that is known to be wrong.

        Under `jax.jit` the value is not known; for a wrong value the network then returns NaN.

        Raises:
            UserError: a value of another kind or length, or outside of its range.
        """

    def drop(self, value: Value, key, rate: float) -> Value:
        """Returns the value with each example's part replaced by `null` with probability `rate`.

        Ho & Salimans 2022, algorithm 1.
        """
        null = self.null(value)
        dropped = jax.random.bernoulli(key, rate, jnp.shape(jax.tree.leaves(value)[0])[:1])

        def choose(kept, none):
            return jnp.where(dropped.reshape(dropped.shape + (1,) * (kept.ndim - 1)), none, kept)

        return jax.tree.map(choose, value, null)
