"""How far a measure would move, had other samples been drawn: random halves of those that there are."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit


class Estimate(NamedTuple):
    """A measure of a set of samples.

    Attributes:
        value: of all samples.
        replicates: of random halves of them, in pairs of complements. float64 `[replicates]`; empty for no interval.
    """

    value: float
    replicates: Float[np.ndarray, " replicates"]


def random_halves(number: int, replicates: int, seed: int = 0) -> Bool[np.ndarray, "replicates number"]:
    """Which of `number` samples are in each half; each pair of rows splits them in two, the second one more if odd."""
    generator = np.random.Generator(np.random.Philox(seed))
    halves = np.zeros((2 * (replicates // 2), number), bool)
    for row in range(0, len(halves), 2):
        halves[row, generator.permutation(number)[: number // 2]] = True
        halves[row + 1] = ~halves[row]
    return halves


def interval(
    estimate: Estimate, lowest: float = -np.inf, highest: float = np.inf, level: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """The value ± t times the standard deviation of the halves, cut to [lowest, highest]; Nones without replicates.

    It is meant to hold the mean of this measure over draws of as many samples from the same model, the reference as it
    is: so it moves with the measure's bias at this count, and holds the value itself. A half is drawn without
    replacement, and as many are left out as are in it, so the spread of the halves is that of a whole draw, at first
    order; and a half has no sample twice, which nearest neighbours and unbiased sums would not bear. t is Student's
    quantile with as many degrees of freedom as there are pairs. Shao & Wu 1989, the delete-d jackknife with d = n / 2.
    """
    if not len(estimate.replicates):
        return None, None
    # Of a mean over samples, complements deviate by opposite amounts: as many are free as there are pairs.
    reach = stdtrit(len(estimate.replicates) // 2, (1 + level) / 2) * np.std(estimate.replicates)
    return float(max(lowest, estimate.value - reach)), float(min(highest, estimate.value + reach))
