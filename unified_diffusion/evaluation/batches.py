"""Batches of one size, cut from a dataset or from some of its rows."""

import functools
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, Shaped
from tqdm import tqdm

from unified_diffusion.codecs import Codec, codec_for


class Batch(NamedTuple):
    """Some examples of a dataset, filled up to the size of every other batch by repeating its own rows.

    Attributes:
        examples: the examples as the dataset has them, `[B, ...]`.
        label: the labels of the examples, `[B]`, or None for data without labels.
        rows: the numbers of the examples in the dataset, `[B]`.
        count: how many examples, from the first, are not repeated.
        codec: the codec of the data.
    """

    examples: Shaped[np.ndarray, "b ..."]
    label: Int[np.ndarray, " b"] | None
    rows: Int[np.ndarray, " b"]
    count: int
    codec: Codec

    @property
    def x0(self) -> Shaped[Array, "b ..."]:
        """The examples as a model takes them."""
        return self.codec.encode(self.examples)

    def keys(self, key: Key[Array, ""]) -> Key[Array, " b"]:
        """A key for each example, which depends on `key` and on the example's number alone."""
        return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.asarray(self.rows))


def batches_of(dataset, rows, batch_size, codec=None) -> Iterator[Batch]:
    """The rows of a dataset, in order, as batches of min(batch_size, number of rows) examples.

    `codec` turns the examples into x_0; None takes the built-in codec for the shape of the examples.
    """
    codec = codec or codec_for(dataset.shape)
    batch_size = min(batch_size, len(rows))
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        padded = np.resize(chosen, batch_size)
        batch = dataset.gather(padded)
        yield Batch(batch["x0"], batch.get("label"), padded, len(chosen), codec)


def over_batches(function, dataset, rows, batch_size, codec=None):
    """The results of a function for each of the rows of a dataset, as NumPy arrays.

        x0_means = over_batches(lambda batch: batch.x0.mean(axis=(1, 2, 3)), dataset, np.arange(1000), 250)

    Args:
        function: a function of a `Batch` that returns a pytree of arrays `[B, ...]`.
        dataset, rows, batch_size, codec: as in `batches_of`.

    Returns:
        the same pytree, with arrays `[len(rows), ...]`.
    """
    found = []
    for batch in batches_of(dataset, rows, batch_size, codec):
        result = function(batch)
        found.append(jax.tree.map(lambda part, count=batch.count: np.asarray(part)[:count], result))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def first_rows(dataset, num_examples):
    """The numbers of the dataset's first `num_examples` examples, or of all for 0."""
    return np.arange(min(num_examples or len(dataset), len(dataset)))


def progress_bar(total, unit, desc):
    """A progress bar on a terminal, and nothing elsewhere: a context whose `update(n)` moves the bar on by n."""
    return tqdm(total=total, unit=unit, desc=desc, disable=not sys.stderr.isatty())
