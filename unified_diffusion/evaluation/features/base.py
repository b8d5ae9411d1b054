"""What a feature extractor is: images, or points, to the vectors whose distances stand for likeness."""

import abc
from collections.abc import Callable, Sized
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from unified_diffusion.data import Dataset, StreamedDataset
from unified_diffusion.evaluation.batches import over_batches


class Unavailable(Exception):
    """An extractor that cannot be used on these data, or here: the message, one line, says why."""


class Features(NamedTuple):
    """What is known of examples.

    Attributes:
        vectors: float32 or float64 `[n, d]`.
        probabilities: of classes, of sum 1 `[n, classes]`; or None.
        labels: as the data have them `[n]`; or None.
    """

    vectors: Float[np.ndarray, "n d"]
    probabilities: Float[np.ndarray, "n classes"] | None = None
    labels: Int[np.ndarray, " n"] | None = None


class FeatureExtractor(abc.ABC):
    """An extractor, made for one data set.

    Attributes:
        name: in `FEATURES`.
        fingerprint: of its parameters; numbers of extractors with the same fingerprint compare.
        note: what it is, in a line.
    """

    name: str
    fingerprint: str
    note: str

    @abc.abstractmethod
    def extract(self, dataset: Dataset | StreamedDataset, count: int | None = None) -> Features:
        """The features of `count` examples, those that `spread` takes, or of all of them, in the data set's order."""

    def accuracy(self, features: Features) -> float | None:
        """The share of labelled examples that are told right; None for a network that knows other classes, or none."""
        return None

    def own_numbers(self, samples, reference, reference_count: int | None = None) -> dict[str, float]:
        """Metrics by name that the extractor's own software computes, which stand instead of ours."""
        return {}


def spread(dataset: Sized, count: int | None) -> Shaped[np.ndarray, " rows"]:
    """The rows of `count` examples, in order; all of them for None or too many.

    They are drawn at random, the same ones each time: even strides would meet classes that take turns in a few only.
    """
    if count is None or count >= len(dataset):
        return np.arange(len(dataset))
    return np.sort(np.random.Generator(np.random.Philox(0)).permutation(len(dataset))[:count])


def in_batches(
    function: Callable, dataset: Dataset | StreamedDataset, count: int | None, batch_size: int = 500
) -> Features:
    """Features by a function of a batch of examples; the last batch is filled up, so that all have one shape."""

    def features(batch):
        return function(batch.examples)._replace(labels=batch.label)

    return over_batches(features, dataset, spread(dataset, count), batch_size)
