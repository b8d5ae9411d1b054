"""Precision, recall, density and coverage: which samples lie among the data, and which data among the samples.

The region of a set is the union of balls around its vectors, each as wide as the distance to its k-th neighbour there.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from unified_diffusion.errors import UserError
from unified_diffusion.evaluation.nearest import nearest, squared_distances
from unified_diffusion.evaluation.resampling import Estimate


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of the samples in the reference's region, and of the reference in the samples' region."""

    precision: Estimate
    recall: Estimate


class DensityCoverage(NamedTuple):
    """How many balls of the reference a sample lies in, over k, on average; and the share of balls with a sample."""

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

    Both depend on the counts of both sets, recall of a half on the wider balls of a half.

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
    """Naeem et al. 2020, eq. 3 and 4, with k = 5: of the data itself both are near 1, density on average.

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
    """The halves, none of them for None."""
    halves = np.zeros((0, len(samples)), bool) if halves is None else halves
    fewest = min([len(samples), len(reference), *halves.sum(axis=1)])
    if fewest <= k:
        raise UserError(f"{k} neighbours need more than {k} vectors in each set, and in each half, not {fewest}")
    return halves


def _radii(samples, k, halves):
    """Squared distances to the k-th neighbour, among all samples and within each half; -1 outside it. `[1 + B, n]`"""
    # Of 8 k neighbours k are in a half but with odds below 1e-4, and a radius is then a little too short.
    listed = nearest(samples, samples, min(8 * k if len(halves) else k, len(samples) - 1), same=True)
    radii = [listed.squared[:, k - 1]]
    for half in halves:
        reached = np.cumsum(half[listed.indices], axis=1) >= k
        position = np.where(reached[:, -1], np.argmax(reached, axis=1), listed.indices.shape[1] - 1)
        radii.append(np.where(half, np.take_along_axis(listed.squared, position[:, None], axis=1)[:, 0], -1))
    return radii


def _mean(values, halves):
    """The mean over samples, and over each half."""
    values = values.astype(np.float64)
    return Estimate(float(values.mean()), halves @ values / halves.sum(axis=1))


def _estimate(values):
    return Estimate(float(values[0]), values[1:])
