"""Nearest neighbours against scikit-learn's, and of a stream against those of the whole."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from unified_diffusion.data import Dataset
from unified_diffusion.evaluation import random_halves, training_neighbours
from unified_diffusion.evaluation.nearest import nearest, nearest_of_stream, squared_distances


@pytest.mark.parametrize("k", [1, 4, 30])
def test_they_are_scikit_learns(k):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(25, 6)), generator.normal(size=(30, 6))
    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(y).kneighbors(x)
    streamed = nearest_of_stream(x, (y[start : start + 7] for start in range(0, 30, 7)), k)
    for found in (nearest(x, y, k, block=4), streamed):
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.squared, distances**2, rtol=1e-10)


def test_none_is_its_own_neighbour():
    x = np.repeat(np.random.default_rng(1).normal(size=(10, 3)), 2, axis=0)
    found = nearest(x, x, 1, same=True, block=3)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(20) ^ 1)
    np.testing.assert_allclose(found.squared, 0, atol=1e-14)


def test_distances_of_pixels_are_exact():
    x = np.random.default_rng(2).integers(0, 256, (20, 3072), dtype=np.uint8)
    exact = np.sum((x[:, None].astype(np.int64) - x[None]) ** 2, axis=-1)
    np.testing.assert_array_equal(squared_distances(x, x), exact)


def images(generator, count):
    return Dataset(generator.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8))


def test_copies_are_seen():
    generator = np.random.default_rng(3)
    train, test = images(generator, 2100), images(generator, 40)
    copied = generator.integers(0, 2100, 30)
    found = training_neighbours(Dataset(train.examples[copied]), train, test, k=3)
    np.testing.assert_array_equal(found.indices[:, 0], copied)
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    assert found.share_nearer().value == 1
    near = np.sqrt(np.mean((train.examples[found.indices[4, 1]] - train.examples[copied[4]].astype(float)) ** 2))
    np.testing.assert_allclose(found.distances[4, 1], near, rtol=1e-12)
    assert found.rows.tolist() == list(range(30))
    assert found.indices.shape == (30, 3)


def test_new_data_are_as_near_as_test_data():
    generator = np.random.default_rng(4)
    train, test, new = (images(generator, count) for count in (200, 300, 500))
    found = training_neighbours(new, train, test, k=1, limit=400)
    assert len(found.rows) == 400
    # The standard deviation of a rank statistic's share is near sqrt((1 / 300 + 1 / 400) / 12).
    assert abs(found.share_nearer().value - 0.5) < 4 * np.sqrt((1 / 300 + 1 / 400) / 12)
    assert training_neighbours(test, train, test).share_nearer().value == 0.5


def test_halves_of_the_share_are_those_of_the_samples():
    generator = np.random.default_rng(5)
    train, test, new = (images(generator, count) for count in (50, 30, 20))
    found = training_neighbours(new, train, test, k=1)
    halves = random_halves(20, 6)
    replicates = found.share_nearer(halves).replicates
    for half, share in zip(halves, replicates, strict=True):
        pairs = found.distances[half, :1] - found.test
        np.testing.assert_allclose(share, np.mean((pairs < 0) + (pairs == 0) / 2), rtol=1e-12)


def test_points_and_few_of_them():
    train = Dataset(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32))
    found = training_neighbours(Dataset(np.zeros((1, 2), np.float32)), train, train, k=5)
    np.testing.assert_allclose(found.distances, [[0, 5]])
