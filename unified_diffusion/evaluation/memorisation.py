"""The nearest training examples of samples, which tell whether samples are copies."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from unified_diffusion.codecs import codec_for
from unified_diffusion.data import epoch
from unified_diffusion.evaluation.features import spread
from unified_diffusion.evaluation.nearest import nearest_of_stream
from unified_diffusion.evaluation.resampling import Estimate


class TrainingNeighbours(NamedTuple):
    """The training examples nearest to samples, and for comparison the distances of held-out examples.

    Distances are those of the codec: root mean squared differences on [0, 255] for images, Euclidean ones for points.

    Attributes:
        rows: the rows of the samples that were looked at, `[n]`.
        indices: the rows of the training examples nearest to each sample, nearest first, `[n, k]`.
        distances: the distances of each sample to these training examples, `[n, k]`.
        test: the distances of held-out examples to the training example nearest to each, `[m]`.
    """

    rows: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, "n k"]
    distances: Float[np.ndarray, "n k"]
    test: Float[np.ndarray, " m"]

    def share_nearer(self, halves: Bool[np.ndarray, "replicates n"] | None = None) -> Estimate:
        """How often a sample is nearer to its training example than a held-out example to its own; ties count half.

        The share is ½ if samples are as new as held-out data, and 1 if all samples are copies. After Meehan et al.
        2020, section 3.
        """
        order = np.sort(self.test)
        nearer = len(order) - np.searchsorted(order, self.distances[:, 0], side="right")
        ties = len(order) - np.searchsorted(order, self.distances[:, 0], side="left") - nearer
        shares = (nearer + ties / 2) / len(order)
        halves = np.zeros((0, len(shares)), bool) if halves is None else halves
        return Estimate(float(np.mean(shares)), halves @ shares / halves.sum(axis=1))


def training_neighbours(samples, train, test, k=5, limit=1000, codec=None) -> TrainingNeighbours:
    """The k training examples nearest to each of `limit` samples and `limit` test examples, taken by `spread`.

    Args:
        samples, train, test: data sets, in memory or streamed.
        codec: the codec that measures distances; None takes the built-in one for the shape of the examples.
    """
    codec = codec or codec_for(train.shape)
    rows, held_out = spread(samples, limit), spread(test, limit)
    queries = np.concatenate([_flat(samples.gather(rows)["x0"]), _flat(test.gather(held_out)["x0"])])
    found = nearest_of_stream(queries, (_flat(batch["x0"]) for batch in epoch(train, 1000)), min(k, len(train)))
    distances = codec.distance(found.squared, math.prod(train.shape))
    count = len(rows)
    return TrainingNeighbours(rows, found.indices[:count], distances[:count], distances[count:, 0])


def _flat(examples):
    return examples.reshape(len(examples), -1).astype(np.float64)
