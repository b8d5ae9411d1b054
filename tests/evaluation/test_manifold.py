"""Precision, recall, density and coverage, against their definitions written out, and where they are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from unified_diffusion import UserError
from unified_diffusion.evaluation import density_coverage, precision_recall, random_halves


def radius(x, k):
    """The distance of each to its k-th nearest other."""
    return np.sort(cdist(x, x), axis=1)[:, k]


def by_definition(x, y, k_pr=3, k_dc=5):
    """precision, recall, density, coverage."""
    d = cdist(y, x)
    inside = d <= radius(y, k_dc)[:, None]
    return (
        np.mean(np.any(d <= radius(y, k_pr)[:, None], axis=0)),
        np.mean(np.any(d <= radius(x, k_pr)[None], axis=1)),
        inside.sum() / (k_dc * len(x)),
        np.mean(inside.any(axis=1)),
    )


@given(seed=st.integers(0, 99), d=st.integers(1, 5))
def test_they_are_their_definitions_whatever_the_block(seed, d):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(40, d)), 0.8 * generator.normal(size=(33, d)) + 0.5
    halves = random_halves(40, 4, seed)
    for block in (7, 1000):
        estimates = [*precision_recall(x, y, halves=halves, block=block)]
        estimates += [*density_coverage(x, y, halves=halves, block=block)]
        np.testing.assert_allclose([estimate.value for estimate in estimates], by_definition(x, y), rtol=1e-12)
    # The reference's balls stay as they are: of a half, precision and density are means over fewer samples.
    for row, half in enumerate(halves):
        exact = by_definition(x[half], y)
        np.testing.assert_allclose([estimate.replicates[row] for estimate in estimates], exact, rtol=1e-12)


def test_far_from_the_data_all_are_nothing():
    x, y = np.random.default_rng(0).normal(size=(2, 50, 3))
    for part in (*precision_recall(x + 100, y), *density_coverage(x + 100, y)):
        assert part.value == 0


def test_the_data_themselves():
    x = np.random.default_rng(1).normal(size=(60, 3))
    assert [part.value for part in precision_recall(x, x)] == [1, 1]
    density, coverage = density_coverage(x, x)
    # Each ball holds its centre and the five others that it reaches.
    np.testing.assert_allclose([density.value, coverage.value], [6 / 5, 1], rtol=1e-12)


def test_new_draws_of_the_data():
    """E density is 1, and E coverage 1 - (m - 1) … (m - k) / ((2m - 1) … (2m - k)). Naeem et al. 2020, section 3.3."""
    k, m, draws = 5, 20, 2000
    exact = 1 - np.prod([(m - i) / (2 * m - i) for i in range(1, k + 1)])
    generator = np.random.default_rng(2)
    found = [density_coverage(*generator.normal(size=(2, m, 3))) for _ in range(draws)]
    density, coverage = ([part.value for part in column] for column in zip(*found, strict=True))
    assert abs(np.mean(density) - 1) < 4 * np.std(density) / np.sqrt(draws)
    assert abs(np.mean(coverage) - exact) < 4 * np.std(coverage) / np.sqrt(draws)
    assert 4 * np.std(coverage) / np.sqrt(draws) < 0.005


def test_one_mode_of_two():
    """Samples of one of two equal modes are precise, and cover half."""
    generator = np.random.default_rng(3)
    y = generator.normal(size=(200, 2)) + 50 * (np.arange(200) % 2)[:, None]
    precision, recall = precision_recall(generator.normal(size=(200, 2)), y)
    assert precision.value > 0.9
    assert 0.4 < recall.value <= 0.5
    # One outlier's ball takes in a whole mode: density weighs it, precision does not.
    y[0] = 25
    between = np.full((20, 2), 25.0) + generator.normal(size=(20, 2))
    assert precision_recall(between, y)[0].value == 1
    assert density_coverage(between, y)[0].value < 0.25


def test_too_few():
    with pytest.raises(UserError, match="3 neighbours need more than 3 vectors"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(UserError, match="in each half, not 5"):
        density_coverage(np.zeros((10, 2)), np.zeros((9, 2)), halves=random_halves(10, 2))
