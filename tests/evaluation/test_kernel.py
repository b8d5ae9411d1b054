"""The kernel distance against the double sums it stands for, and what it is on average."""

import numpy as np
import pytest

from unified_diffusion import UserError
from unified_diffusion.evaluation import kernel_distance, random_halves


def by_loops(x, y):
    """All pairs of different vectors, one by one."""

    def k(a, b):
        return (float(np.dot(a, b)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    among_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    among_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return among_x + among_y - 2 * np.mean([k(a, b) for a in x for b in y])


def test_it_is_the_double_sums_whatever_the_block():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(13, 4)), 0.5 + generator.normal(size=(9, 4))
    halves = random_halves(13, 4)
    for block in (1, 5, 1000):
        estimate = kernel_distance(x, y, halves, block=block)
        np.testing.assert_allclose(estimate.value, by_loops(x, y), rtol=1e-12)
        np.testing.assert_allclose(estimate.replicates, [by_loops(x[half], y) for half in halves], rtol=1e-11)


def test_it_is_unbiased():
    """E over sets of one distribution is 0, at any counts."""
    generator = np.random.default_rng(1)
    values = [
        kernel_distance(generator.normal(size=(10, 3)), generator.normal(size=(20, 3))).value for _ in range(2000)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert np.min(values) < 0


def test_shifted_gaussians():
    """In one dimension E (x y + 1)³ = 1 + 3 m m' + 3 (1 + m²)(1 + m'²) + (m³ + 3 m)(m'³ + 3 m'), of unit variances."""

    def mean_kernel(m, n):
        return 1 + 3 * m * n + 3 * (1 + m**2) * (1 + n**2) + (m**3 + 3 * m) * (n**3 + 3 * n)

    generator = np.random.default_rng(2)
    exact = mean_kernel(0, 0) + mean_kernel(0.7, 0.7) - 2 * mean_kernel(0, 0.7)
    values = [
        kernel_distance(generator.normal(size=(40, 1)), 0.7 + generator.normal(size=(40, 1))).value for _ in range(2000)
    ]
    assert abs(np.mean(values) - exact) < 4 * np.std(values) / np.sqrt(len(values))


def test_one_vector_is_too_few():
    with pytest.raises(UserError, match="two vectors or more"):
        kernel_distance(np.zeros((1, 2)), np.zeros((5, 2)))
    with pytest.raises(UserError, match="in each half"):
        kernel_distance(np.zeros((3, 2)), np.zeros((5, 2)), random_halves(3, 2))
