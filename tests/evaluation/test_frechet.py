"""The Fréchet distance against SciPy's matrix square root, and Gaussians whose distance is known."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from unified_diffusion import UserError
from unified_diffusion.evaluation import (
    frechet_distance,
    gaussian_frechet,
    gaussian_moments,
    interval,
    moments,
    random_halves,
)


def by_sqrtm(x, y):
    """‖m1 - m2‖² + tr(C1 + C2 - 2 sqrtm(C1 C2))."""
    first, second = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(first @ second)
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(first + second - 2 * root.real)


def sets(seed, n, m, d):
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(2, d, d)) / np.sqrt(d)
    return generator.normal(size=(n, d)) @ mix[0], 0.3 + generator.normal(size=(m, d)) @ mix[1]


@given(seed=st.integers(0, 99), d=st.integers(2, 12))
def test_it_is_what_sqrtm_says(seed, d):
    x, y = sets(seed, 40, 60, d)
    np.testing.assert_allclose(frechet_distance(x, y).value, by_sqrtm(x, y), rtol=1e-8, atol=1e-9)


def test_gaussians_whose_covariances_commute():
    """Σ (m1 - m2)² + (s1 - s2)² along common axes, here turned."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    first, second = np.array([0.0, 1e-6, 0.5, 2.0, 30.0]), np.array([1.0, 0.0, 0.5, 3.0, 29.0])
    means = np.arange(5.0), np.full(5, 2.0)
    pair = (gaussian_moments(mean, axes * std**2 @ axes.T) for mean, std in zip(means, (first, second), strict=True))
    exact = np.sum((means[0] - means[1]) ** 2) + np.sum((first - second) ** 2)
    np.testing.assert_allclose(gaussian_frechet(*pair), exact, rtol=1e-8)


def test_gaussians_in_two_dimensions():
    """tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)) for 2 x 2 matrices of real positive eigenvalues."""
    first, second = np.array([[2.0, 0.7], [0.7, 0.5]]), np.array([[0.3, -0.2], [-0.2, 4.0]])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    pair = gaussian_moments(np.zeros(2), first), gaussian_moments(np.array([3.0, 4.0]), second)
    np.testing.assert_allclose(gaussian_frechet(*pair), 25 + np.trace(first + second) - 2 * root, rtol=1e-13)


@pytest.mark.parametrize(("n", "d", "rank"), [(200, 6, 6), (200, 30, 4), (5, 40, 40), (40, 40, 40)])
def test_a_set_and_itself(n, d, rank):
    generator = np.random.default_rng(1)
    x = 100 * generator.normal(size=(n, rank)) @ generator.normal(size=(rank, d))
    scale = np.trace(np.cov(x.T))
    assert frechet_distance(x, x).value == 0
    # In the same order or not, and whatever is added to both.
    assert abs(frechet_distance(x[::-1] + 1e3, x + 1e3).value) < 1e-12 * scale


def test_small_distances_are_not_taken_for_rounding():
    x = np.random.default_rng(7).normal(size=(50, 6))
    np.testing.assert_allclose(frechet_distance(x + 1e-5, x).value, 6e-10, rtol=1e-4)


def test_singular_covariances():
    """Sets in planes at right angles have nothing in common: the traces are left."""
    generator = np.random.default_rng(2)
    x, y = np.zeros((2, 50, 6))
    x[:, :2], y[:, 3:5] = generator.normal(size=(2, 50, 2))
    y += x.mean(0) - y.mean(0)
    exact = np.trace(np.cov(x.T)) + np.trace(np.cov(y.T))
    np.testing.assert_allclose(frechet_distance(x, y).value, exact, rtol=1e-13)
    constant = np.ones((7, 6))
    np.testing.assert_allclose(frechet_distance(constant, constant + 2).value, 24, rtol=1e-13)


def test_fewer_vectors_than_dimensions():
    """The root is the centred vectors then; written out with the covariance's own root it is the same."""
    x, y = sets(3, 8, 11, 20)
    other = [gaussian_moments(part.mean(0), np.cov(part.T)) for part in (x, y)]
    np.testing.assert_allclose(frechet_distance(x, y).value, gaussian_frechet(*other), rtol=1e-7)


def test_blocks_and_float32_change_nothing():
    x, y = sets(4, 25_001, 400, 3)
    whole = moments(x)
    np.testing.assert_allclose(whole.root @ whole.root.T, np.cov(x.T), rtol=1e-11)
    single = frechet_distance(x.astype(np.float32), y.astype(np.float32)).value
    np.testing.assert_allclose(single, by_sqrtm(x, y), rtol=1e-5)


def test_the_halves():
    x, y = sets(5, 31, 50, 4)
    halves = random_halves(31, 6)
    estimate = frechet_distance(x, moments(y), halves)
    exact = [by_sqrtm(x[half], y) for half in halves]
    np.testing.assert_allclose(estimate.replicates, exact, rtol=1e-8)
    low, high = interval(estimate, 0.0)
    assert low < estimate.value < high


def test_many_dimensions_have_fewer_halves():
    x = np.random.default_rng(6).normal(size=(30, 1100))
    assert len(frechet_distance(x, x, random_halves(30, 200)).replicates) == 20
    assert len(frechet_distance(x, x, random_halves(30, 8)).replicates) == 8


def test_one_vector_has_no_covariance():
    with pytest.raises(UserError, match="two vectors or more"):
        frechet_distance(np.zeros((1, 2)), np.zeros((5, 2)))
