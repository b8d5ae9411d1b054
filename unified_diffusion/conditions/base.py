"""The base class of conditions."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

# A pytree of arrays whose first axis is the batch: integers `[B]` for class labels, token ids and a mask for text.
Value = Any


class Condition(abc.ABC):
    """A kind of thing that a network is told beside x_t and t, such as class labels.

    The values of a condition are pytrees of arrays with one entry per example, or None where nothing is told. A
    subclass defines `of`, `null` and `check`. Everything that trains, samples or guides asks these three, and so works
    for any kind of condition.

    Attributes:
        told: whether the network is told anything at all.
    """

    told: bool = True

    @abc.abstractmethod
    def of(self, batch: dict) -> Value:
        """The value in a batch of data, `{"x0": …, "label": …}`; None for a network that is told nothing."""

    @abc.abstractmethod
    def null(self, value: Value) -> Value:
        """The value that tells the network nothing, shaped like `value`. Ho & Salimans 2022 write it as ∅.

        Raises:
            UserError: the network cannot be told nothing.
        """

    @abc.abstractmethod
    def check(self, value: Value, batch_size: int) -> Value:
        """Gives the value as arrays, and refuses a value that is known to be wrong.

        Under `jax.jit` values are not known, and the network itself answers wrong ones by NaN.

        Raises:
            UserError: a value of another kind or length, or outside of its range.
        """

    def drop(self, value: Value, key, rate: float) -> Value:
        """Gives the value with each example replaced by `null` with probability `rate`. Ho & Salimans 2022, alg. 1."""
        null = self.null(value)
        dropped = jax.random.bernoulli(key, rate, jnp.shape(jax.tree.leaves(value)[0])[:1])

        def choose(kept, none):
            return jnp.where(dropped.reshape(dropped.shape + (1,) * (kept.ndim - 1)), none, kept)

        return jax.tree.map(choose, value, null)
