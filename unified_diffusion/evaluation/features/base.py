"""Feature extractors turn images, or points, into vectors whose distances stand for likeness."""

import abc
from collections.abc import Callable, Sized
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from unified_diffusion.data import Dataset, StreamedDataset
from unified_diffusion.evaluation.batches import over_batches


class Unavailable(Exception):
    """An extractor cannot be used on these data, or on this machine; the message says why, in one line."""


class Features(NamedTuple):
    """The features of n examples.

    Attributes:
        vectors: the feature vectors, float32 or float64 `[n, d]`.
        probabilities: the probabilities of the classes, which sum to 1, `[n, classes]`; or None.
        labels: the labels of the examples in the data, `[n]`; or None.
    """

    vectors: Float[np.ndarray, "n d"]
    probabilities: Float[np.ndarray, "n classes"] | None = None
    labels: Int[np.ndarray, " n"] | None = None


class FeatureExtractor(abc.ABC):
    """The base class of extractors, each made for one data set.

        features = extractor.extract(dataset, count=1000)
        features.vectors  # [1000, d]

    Attributes:
        name: the name in `FEATURES`.
        fingerprint: a hash of the parameters; only numbers of extractors with the same fingerprint compare.
        note: one line that describes the extractor.
    """

    name: str
    fingerprint: str
    note: str

    @abc.abstractmethod
    def extract(self, dataset: Dataset | StreamedDataset, count: int | None = None) -> Features:
        """The features of `count` examples, those that `spread` takes, or of all of them, in the data set's order."""

    def accuracy(self, features: Features) -> float | None:
        """The share of labelled examples that are classified rightly; None for a network without these classes."""
        return None

    def own_numbers(self, samples, reference, reference_count: int | None = None) -> dict[str, float]:
        """The metrics, by name, that the extractor's own software computes; they take the place of ours."""
        return {}


def spread(dataset: Sized, count: int | None) -> Shaped[np.ndarray, " rows"]:
    """The rows of `count` examples of a data set, in order; all rows for None, or where there are no more.

    The rows are drawn at random, the same ones each time. Even strides could miss classes, where the classes of a data
    set take turns.
    """
    if count is None or count >= len(dataset):
        return np.arange(len(dataset))
    return np.sort(np.random.Generator(np.random.Philox(0)).permutation(len(dataset))[:count])


def in_batches(
    function: Callable, dataset: Dataset | StreamedDataset, count: int | None, batch_size: int = 500
) -> Features:
    """The features of `count` examples, by a function from a batch of examples to `Features`.

    The last batch is filled up, so that all batches have one shape.
    """

    def features(batch):
        return function(batch.examples)._replace(labels=batch.label)

    return over_batches(features, dataset, spread(dataset, count), batch_size)
