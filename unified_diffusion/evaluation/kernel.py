"""The kernel distance: the squared maximum mean discrepancy of two sets of vectors, unbiased, in float64."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

from unified_diffusion.errors import UserError
from unified_diffusion.evaluation.resampling import Estimate


def polynomial_kernel(x: Shaped[np.ndarray, "n d"], y: Shaped[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """The kernel (x · y / d + 1)³ of all pairs. Bińkowski et al. 2018, section 3.1."""
    product = np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1
    return product * product * product  # a hundred times faster than ** 3


def kernel_distance(
    samples: Shaped[np.ndarray, "n d"],
    reference: Shaped[np.ndarray, "m d"],
    halves: Bool[np.ndarray, "replicates n"] | None = None,
    block: int = 1000,
) -> Estimate:
    """The distance E k(x, x') + E k(y, y') - 2 E k(x, y) over all pairs of different vectors, an `Estimate`.

    The distance is unbiased: two sets of one distribution give 0 on average, and so often less than 0. Gretton et al.
    2012, eq. 3. In Inception's features it is the kernel inception distance of Bińkowski et al. 2018.

    Args:
        halves: the halves of the samples that the replicates are computed on, as `random_halves` gives them.
        block: how many rows of the kernel matrix are held at once.

    Raises:
        UserError: fewer than two vectors in a set, or in a half.
    """
    number, rows = len(samples), len(samples) if halves is None else min(halves.sum(axis=1), default=len(samples))
    if min(rows, len(reference)) < 2:
        raise UserError("the kernel distance needs two vectors or more in each set, and in each half")
    chosen = np.ones((number, 1)) if halves is None else np.column_stack([np.ones(number), halves.T])
    counts = chosen.sum(axis=0)
    among, across = np.zeros(len(counts)), np.zeros(len(counts))
    for start in range(0, number, block):
        part = slice(start, start + block)
        kernel = polynomial_kernel(samples[part], samples)
        kernel[np.arange(len(kernel)), start + np.arange(len(kernel))] = 0
        among += np.sum(chosen[part] * (kernel @ chosen), axis=0)
        across += chosen[part].T @ _row_sums(samples[part], reference, block)
    values = among / (counts * (counts - 1)) + _mean_of_pairs(reference, block) - 2 * across / (counts * len(reference))
    return Estimate(float(values[0]), values[1:])


def _row_sums(x, y, block):
    """The sums Σ_y k(x, y) `[n]` for each x."""
    total = np.zeros(len(x))
    for start in range(0, len(y), block):
        total += polynomial_kernel(x, y[start : start + block]).sum(axis=1)
    return total


def _mean_of_pairs(y, block):
    """The mean of k(y, y') over different y and y'."""
    total = sum(_row_sums(y[start : start + block], y, block).sum() for start in range(0, len(y), block))
    same = np.sum((np.einsum("nd,nd->n", y, y, dtype=np.float64) / y.shape[1] + 1) ** 3)
    return (total - same) / (len(y) * (len(y) - 1))
