"""The Fréchet distance between two sets of vectors, each read as a Gaussian, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from threadpoolctl import threadpool_limits

from unified_diffusion.errors import UserError
from unified_diffusion.evaluation.resampling import Estimate

FULL_DIMENSION = 512  # above this dimension fewer replicates are computed, since the cost of one grows with its cube
FEWEST = 10


class Moments(NamedTuple):
    """The mean and the covariance of a set of vectors, as the distance needs them.

    Attributes:
        mean: the mean `[d]`.
        root: any root `[d, r]` of the covariance, which is root @ root.T.
    """

    mean: Float[np.ndarray, " d"]
    root: Float[np.ndarray, "d r"]


def moments(vectors: Shaped[np.ndarray, "n d"]) -> Moments:
    """The mean and the covariance (with divisor n - 1) of a set.

    The root is the triangle R of centred = Q R, or the centred vectors themselves where there are fewer vectors than
    dimensions. The covariance itself is never formed, since rounding would drown its small eigenvalues.

    Raises:
        UserError: fewer than two vectors.
    """
    number, dimension = vectors.shape
    if number < 2:
        raise UserError(f"the Fréchet distance needs two vectors or more in each set, not {number}")
    mean = np.asarray(np.mean(vectors, axis=0, dtype=np.float64))
    root = np.zeros((0, dimension))
    for start in range(0, number, 10_000):
        root = np.vstack([root, vectors[start : start + 10_000] - mean])
        if len(root) > dimension:
            root = np.asarray(np.linalg.qr(root, mode="r"))
    return Moments(mean, root.T / np.sqrt(number - 1))


def gaussian_moments(mean: Float[np.ndarray, " d"], covariance: Float[np.ndarray, "d d"]) -> Moments:
    """The `Moments` of a Gaussian, whose covariance is symmetric and, but for rounding, positive semi-definite."""
    variances, directions = np.linalg.eigh(covariance)
    return Moments(np.asarray(mean, np.float64), directions * np.sqrt(np.maximum(variances, 0)))


def gaussian_frechet(first: Moments, second: Moments) -> float:
    """The squared 2-Wasserstein distance of two Gaussians, ‖m1 - m2‖² + tr(C1 + C2 - 2 (C1 C2)^½).

    With roots C = R Rᵀ the trace of (C1 C2)^½ is the sum of the singular values of R1ᵀ R2, which need no inverse, so
    covariances may be singular, and no accuracy is lost to the root of a rounded zero. A distance that may be the
    rounding of the traces alone is given as 0. Dowson & Landau 1982; Heusel et al. 2017.
    """
    overlap = np.linalg.svd(first.root.T @ second.root, compute_uv=False).sum()
    traces = np.sum(first.root**2) + np.sum(second.root**2)
    distance = np.sum((first.mean - second.mean) ** 2) + traces - 2 * overlap
    rounding = np.finfo(np.float64).eps * len(first.mean) * traces
    return float(distance) if distance > rounding else 0.0


def frechet_distance(
    samples: Shaped[np.ndarray, "n d"],
    reference: Shaped[np.ndarray, "m d"] | Moments,
    halves: Bool[np.ndarray, "replicates n"] | None = None,
) -> Estimate:
    """The distance of samples from a reference, an `Estimate`, in the square of the vectors' unit.

        estimate = frechet_distance(samples, moments(reference), random_halves(len(samples), 200))

    The distance is biased: few samples give too large a value, by about a constant over their number, so only distances
    of equal counts compare. For vectors of more than 512 dimensions fewer halves are computed, in proportion to the
    cost of one, but at least 10.

    Raises:
        UserError: fewer than two vectors in a set, or in a half.
    """
    target = reference if isinstance(reference, Moments) else moments(reference)
    dimension = samples.shape[1]
    halves = np.zeros((0, len(samples)), bool) if halves is None else halves
    affordable = max(FEWEST, int(len(halves) * min(1, FULL_DIMENSION / dimension) ** 3))
    # Threads on small matrices wait for each other longer than they compute: on a busy machine a hundred times as long.
    with threadpool_limits(1 if dimension <= FULL_DIMENSION else None, user_api="blas"):
        value, *replicates = (
            gaussian_frechet(moments(part), target)
            for part in (samples, *(samples[half] for half in halves[:affordable]))
        )
    return Estimate(value, np.array(replicates))
