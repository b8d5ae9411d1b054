"""Precision, recall, density and coverage, which tell how samples lie among the data, and data among the samples.

The region of a set is the union of balls around its vectors. The radius of a ball is the distance of its vector to the
k-th neighbour of the vector in the set.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from unified_diffusion.errors import UserError
from unified_diffusion.evaluation.nearest import nearest, squared_distances
from unified_diffusion.evaluation.resampling import Estimate


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1].

    Attributes:
        precision: the share of the samples that lie in the region of the reference.
        recall: the share of the reference that lies in the region of the samples.
    """

    precision: Estimate
    recall: Estimate


class DensityCoverage(NamedTuple):
    """How samples fill the balls of the reference.

    Attributes:
        density: in how many balls of the reference a sample lies, on average, divided by k.
        coverage: the share of the balls of the reference in which some sample lies.
    """

    density: Estimate
    coverage: Estimate


def precision_recall(
    samples: Shaped[np.ndarray, "n d"],
    reference: Shaped[np.ndarray, "m d"],
    k: int = 3,
    halves: Bool[np.ndarray, "replicates n"] | None = None,
    block: int = 1000,
) -> PrecisionRecall:
    """Improved precision and recall. Kynkäänniemi et al. 2019, eq. 1 and 2, with k = 3.

    Both shares depend on the counts of both sets. The recall of a half uses the balls of that half, which are wider.

    Args:
        k: which neighbour gives the radius of a ball.
        halves: the halves of the samples that the replicates are computed on, as `random_halves` gives them.
        block: how many vectors of the reference are compared at once.

    Raises:
        UserError: k or fewer vectors in a set, or in a half.
    """
    halves = _checked(samples, reference, k, halves)
    radii = _radii(samples, k, halves)
    widths = nearest(reference, reference, k, same=True, block=block).squared[:, -1]
    within = np.zeros(len(samples), bool)
    covered = np.zeros(len(radii))
    for start in range(0, len(reference), block):
        distances = squared_distances(reference[start : start + block], samples)
        within |= np.any(distances <= widths[start : start + block, None], axis=0)
        covered += [np.count_nonzero(np.any(distances <= radius, axis=1)) for radius in radii]
    return PrecisionRecall(_mean(within, halves), _estimate(covered / len(reference)))


def density_coverage(
    samples: Shaped[np.ndarray, "n d"],
    reference: Shaped[np.ndarray, "m d"],
    k: int = 5,
    halves: Bool[np.ndarray, "replicates n"] | None = None,
    block: int = 1000,
) -> DensityCoverage:
    """Density and coverage. Naeem et al. 2020, eq. 3 and 4, with k = 5.

    For samples of the distribution of the reference both are near 1, the density on average. The arguments are those of
    `precision_recall`.

    Raises:
        UserError: k or fewer vectors in a set, or in a half.
    """
    halves = _checked(samples, reference, k, halves)
    widths = nearest(reference, reference, k, same=True, block=block).squared[:, -1]
    chosen = np.vstack([np.ones(len(samples)), halves]).astype(np.float32)
    balls = np.zeros(len(samples))
    covered = np.zeros(len(chosen))
    for start in range(0, len(reference), block):
        inside = squared_distances(reference[start : start + block], samples) <= widths[start : start + block, None]
        balls += inside.sum(axis=0)
        covered += np.count_nonzero(inside.astype(np.float32) @ chosen.T, axis=0)
    return DensityCoverage(_mean(balls / k, halves), _estimate(covered / len(reference)))


def _checked(samples, reference, k, halves):
    """The halves `[replicates, n]`, with no rows for None, after a check of the counts."""
    halves = np.zeros((0, len(samples)), bool) if halves is None else halves
    fewest = min([len(samples), len(reference), *halves.sum(axis=1)])
    if fewest <= k:
        raise UserError(f"{k} neighbours need more than {k} vectors in each set, and in each half, not {fewest}")
    return halves


def _radii(samples, k, halves):
    """The squared distances to the k-th neighbour `[1 + B, n]`, among all samples and within each of B halves.

    The entries of samples outside of a half are -1.
    """
    # Fewer than k of 8 k neighbours lie in a half with a probability below 1e-4; the radius is then a little too short.
    listed = nearest(samples, samples, min(8 * k if len(halves) else k, len(samples) - 1), same=True)
    radii = [listed.squared[:, k - 1]]
    for half in halves:
        reached = np.cumsum(half[listed.indices], axis=1) >= k
        position = np.where(reached[:, -1], np.argmax(reached, axis=1), listed.indices.shape[1] - 1)
        radii.append(np.where(half, np.take_along_axis(listed.squared, position[:, None], axis=1)[:, 0], -1))
    return radii


def _mean(values, halves):
    """The mean of the values over all samples, and over each half, as an `Estimate`."""
    values = values.astype(np.float64)
    return Estimate(float(values.mean()), halves @ values / halves.sum(axis=1))


def _estimate(values):
    return Estimate(float(values[0]), values[1:])
