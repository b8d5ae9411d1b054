"""Random halves of the samples, which tell how far a measure would move if other samples had been drawn."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit


class Estimate(NamedTuple):
    """A measure of a set of samples.

    Attributes:
        value: the measure of all samples.
        replicates: the measure of random halves of the samples, in pairs of complements, float64 `[replicates]`; empty
            where no interval is wanted.
    """

    value: float
    replicates: Float[np.ndarray, " replicates"]


def random_halves(number: int, replicates: int, seed: int = 0) -> Bool[np.ndarray, "replicates number"]:
    """Draws which of `number` samples are in each half, as booleans `[replicates, number]`.

        halves = random_halves(len(samples), 200)
        replicates = [measure(samples[half]) for half in halves]

    Each pair of rows splits the samples in two; the second half has one sample more where `number` is odd.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    halves = np.zeros((2 * (replicates // 2), number), bool)
    for row in range(0, len(halves), 2):
        halves[row, generator.permutation(number)[: number // 2]] = True
        halves[row + 1] = ~halves[row]
    return halves


def interval(
    estimate: Estimate, lowest: float = -np.inf, highest: float = np.inf, level: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """The interval value ± t times the standard deviation of the halves, cut to [lowest, highest].

        low, high = interval(estimate, lowest=0.0)

    The interval is meant to hold the mean of this measure over draws of as many samples from the same model, with the
    same reference. So the interval moves with the bias of the measure at this count, and holds the value itself. A half
    leaves out as many samples as it has, so the spread of the halves is that of a whole draw, at first order. A half
    has no sample twice, as a bootstrap would, since nearest neighbours and unbiased sums do not bear that. t is
    Student's quantile with as many degrees of freedom as there are pairs of halves. Shao & Wu 1989, the delete-d
    jackknife with d = n / 2.

    Returns:
        (low, high), or (None, None) without replicates.
    """
    if not len(estimate.replicates):
        return None, None
    # The means of two complements deviate by opposite amounts, so there are as many free deviations as pairs.
    reach = stdtrit(len(estimate.replicates) // 2, (1 + level) / 2) * np.std(estimate.replicates)
    return float(max(lowest, estimate.value - reach)), float(min(highest, estimate.value + reach))
