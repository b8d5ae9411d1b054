"""Nearest neighbours by brute force, block by block, in float64."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped


class Neighbours(NamedTuple):
    """The k nearest vectors of each query, nearest first.

    Attributes:
        indices: the rows of these vectors in the set that was searched, `[n, k]`.
        squared: the squared Euclidean distances, float64 `[n, k]`.
    """

    indices: Int[np.ndarray, "n k"]
    squared: Float[np.ndarray, "n k"]


def squared_distances(x: Shaped[np.ndarray, "n d"], y: Shaped[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """The squared distances ‖x - y‖² of all pairs, which are exact for integers such as pixels."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    # The distances are computed in place, since these are the largest arrays of all.
    distances = x @ y.T
    distances *= -2
    distances += np.einsum("nd,nd->n", x, x)[:, None]
    distances += np.einsum("md,md->m", y, y)[None]
    return np.maximum(distances, 0, out=distances)


def nearest(
    queries: Shaped[np.ndarray, "n d"],
    searched: Shaped[np.ndarray, "m d"],
    k: int,
    *,
    same: bool = False,
    block: int = 1000,
) -> Neighbours:
    """The k nearest of `searched` to each query.

    Args:
        same: whether the queries are the set that is searched; then no query is its own neighbour.
        block: how many queries are compared at once.
    """
    found = []
    for start in range(0, len(queries), block):
        distances = squared_distances(queries[start : start + block], searched)
        if same:
            distances[np.arange(len(distances)), start + np.arange(len(distances))] = np.inf
        found.append(_smallest(distances, np.arange(len(searched)), k))
    return Neighbours(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def nearest_of_stream(
    queries: Shaped[np.ndarray, "n d"], blocks: Iterable[Shaped[np.ndarray, "m d"]], k: int
) -> Neighbours:
    """The k nearest vectors of each query, as `nearest`, among data that come in blocks and are seen once."""
    indices, squared = np.zeros((len(queries), 0), int), np.zeros((len(queries), 0))
    start = 0
    for block in blocks:
        distances = squared_distances(queries, block)
        new = _smallest(distances, start + np.arange(len(block)), min(k, len(block)))
        indices, squared = np.hstack([indices, new.indices]), np.hstack([squared, new.squared])
        order = np.argsort(squared, axis=1, kind="stable")[:, :k]
        indices, squared = (np.take_along_axis(array, order, axis=1) for array in (indices, squared))
        start += len(block)
    return Neighbours(indices, squared)


def _smallest(distances, names, k):
    """The k smallest distances of each row, in order, with the entries of `names` for their columns."""
    columns = np.argpartition(distances, k - 1, axis=1)[:, :k] if k < distances.shape[1] else _all(distances)
    columns = np.sort(columns, axis=1)
    values = np.take_along_axis(distances, columns, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    columns, values = (np.take_along_axis(array, order, axis=1) for array in (columns, values))
    return Neighbours(names[columns], values)


def _all(distances):
    return np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
