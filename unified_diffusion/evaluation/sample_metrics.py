"""The metrics of a set of samples against a reference set, each with an interval, and the floor under them."""

import dataclasses
import functools

import numpy as np

from unified_diffusion.evaluation.features import Features, spread
from unified_diffusion.evaluation.frechet import frechet_distance, moments
from unified_diffusion.evaluation.inception_score import inception_score
from unified_diffusion.evaluation.kernel import kernel_distance
from unified_diffusion.evaluation.manifold import density_coverage, precision_recall
from unified_diffusion.evaluation.resampling import interval, random_halves

# The direction that is better, and the least and greatest value of each metric.
METRICS = {
    "frechet_distance": ("lower", 0.0, np.inf),
    "kernel_distance": ("lower", -np.inf, np.inf),
    "inception_score": ("higher", 1.0, np.inf),
    "precision": ("higher", 0.0, 1.0),
    "recall": ("higher", 0.0, 1.0),
    "density": ("higher", 0.0, np.inf),
    "coverage": ("higher", 0.0, 1.0),
}


@dataclasses.dataclass(frozen=True)
class Metric:
    """The value of a metric, with its interval and all that the value depends on.

    Attributes:
        name: the name in `METRICS`.
        features: the extractor's name.
        value: the value of the metric.
        low, high: the ends of its 95 % interval, as `resampling.interval` gives them; None where there is none.
        reference: the name of the reference set, such as "digits train", or "none".
        num_reference, num_samples: how many examples and how many samples were compared.
        better: "lower" or "higher".
    """

    name: str
    features: str
    value: float
    low: float | None
    high: float | None
    reference: str
    num_reference: int
    num_samples: int
    better: str

    def moved(self, value, **counts):
        """This metric with the value that another software has computed, and an interval of the same half widths."""
        _, lowest, highest = METRICS[self.name]
        ends = {}
        if self.low is not None and self.high is not None:
            ends = {"low": max(lowest, value - (self.value - self.low)), "high": value + (self.high - self.value)}
            ends["high"] = min(highest, ends["high"])
        return dataclasses.replace(self, value=value, **ends, **counts)


@dataclasses.dataclass(frozen=True)
class Measure:
    """Measures samples in the features of one extractor.

    Args:
        features: the name of the extractor.
        replicates: how many halves of the samples an interval is made from; 0 for no intervals.
        pairwise: the largest number of samples, and of reference examples, for metrics over all pairs; 0 for all. These
            metrics are the kernel distance, precision, recall, density and coverage, whose time grows with the product
            of the two numbers.
        seed: the seed of the halves.
    """

    features: str
    replicates: int = 200
    pairwise: int = 10_000
    seed: int = 0

    def metrics(self, samples, reference):
        """All metrics for which there are enough samples, as a list of `Metric`.

            metrics = Measure("pixels").metrics(features, Reference("digits train", train.vectors))

        Args:
            samples: the `Features` of the samples.
            reference: a `Reference`.
        """
        found = self.distances(samples, reference)
        if samples.probabilities is not None and len(samples.vectors) > 1:
            halves = self._halves(samples.probabilities)
            score = self._metric("inception_score", inception_score(samples.probabilities, halves), len(halves.T))
            found.append(score)
        few, some = self._few(samples.vectors), self._few(reference.vectors)
        for function, k in ((precision_recall, 3), (density_coverage, 5)):
            if min(len(few) // 2, len(some)) > k:
                for name, estimate in function(few, some, k, self._halves(few))._asdict().items():
                    found.append(self._metric(name, estimate, len(few), reference, len(some)))
        return found

    def distances(self, samples, reference):
        """The Fréchet distance and the kernel distance alone, as a list of `Metric`; empty for too few samples."""
        vectors = samples.vectors
        if min(len(vectors) // 2, len(reference.vectors)) < 2:
            return []
        distance = frechet_distance(vectors, reference.moments, self._halves(vectors))
        found = [self._metric("frechet_distance", distance, len(vectors), reference, len(reference.vectors))]
        few, some = self._few(vectors), self._few(reference.vectors)
        distance = kernel_distance(few, some, self._halves(few))
        return [*found, self._metric("kernel_distance", distance, len(few), reference, len(some))]

    def floor(self, train, test):
        """The distances of the data from themselves, as a list of pairs (description, `Metric`).

        Args:
            train: a `Reference`.
            test: the `Features` of held-out data.
        """
        first, second = (Features(train.vectors[half]) for half in random_halves(len(train.vectors), 2, self.seed))
        itself = Measure(self.features, 0, self.pairwise, self.seed).distances(Features(train.vectors), train)[:1]
        halves = self.distances(first, Reference(f"other half of {train.name}", second.vectors))
        return [
            *(("train with itself", metric) for metric in itself),
            *(("two halves of train", metric) for metric in halves),
            *(("test against train", metric) for metric in self.distances(test, train)),
        ]

    def _metric(self, name, estimate, num_samples, reference=None, num_reference=0):
        better, lowest, highest = METRICS[name]
        low, high = interval(estimate, lowest, highest)
        against = "none" if reference is None else reference.name
        return Metric(name, self.features, estimate.value, low, high, against, num_reference, num_samples, better)

    def _halves(self, vectors):
        return random_halves(len(vectors), self.replicates, self.seed)

    def _few(self, vectors):
        """At most `pairwise` of the vectors, taken by `spread`."""
        return vectors[spread(vectors, self.pairwise or None)]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A set of examples that samples are measured against.

    Attributes:
        name: the name of the set, such as "digits train".
        vectors: the feature vectors of its examples, `[n, d]`.
    """

    name: str
    vectors: np.ndarray

    @functools.cached_property
    def moments(self):
        """The mean and the covariance of the vectors, as `frechet.Moments`."""
        return moments(self.vectors)
