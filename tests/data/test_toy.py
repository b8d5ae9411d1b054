import numpy as np
import pytest

from unified_diffusion.data import SOURCES
from unified_diffusion.data.toy import MIXTURES, SHAPES, mixture
from unified_diffusion.errors import UserError

load = SOURCES["toy"]


@pytest.mark.parametrize("density", [*MIXTURES, *SHAPES])
def test_draws_are_points_near_the_unit_square_and_repeat(density):
    data = load(density=density, num_samples=4000)
    assert data.examples.shape == (4000, 2)
    assert data.examples.dtype == np.float32
    assert 0.5 < np.abs(data.examples).max() < 1.2
    assert data.fingerprint == load(density=density, num_samples=4000).fingerprint
    others = [load("test", density=density, num_samples=4000), load(density=density, num_samples=4000, seed=1)]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 3


@pytest.mark.parametrize("density", MIXTURES)
def test_mixtures_have_their_weights_means_and_spread(density):
    weights, means, std = mixture(density)
    data = load(density=density, num_samples=50_000)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(data.labels) / 50_000, weights, atol=0.01)
    offsets = data.examples - means[data.labels]
    assert offsets.std() == pytest.approx(std, rel=0.02)
    centres = [data.examples[data.labels == k].mean(0) for k in range(len(weights))]
    np.testing.assert_allclose(centres, means, atol=6 * std / np.sqrt(50_000 * weights.min()))


def test_noise_is_the_standard_deviation():
    weights, means, _ = mixture("gaussians8")
    data = load(density="gaussians8", noise=0.0, num_samples=100)
    np.testing.assert_allclose(data.examples, means[data.labels], atol=1e-6)
    assert mixture("gaussians8", 0.3)[2] == 0.3


def test_swissroll_lies_on_its_spiral():
    x = load(density="swissroll", noise=0.0).examples.astype(np.float64)
    radius = np.linalg.norm(x, axis=1) * 4.5 * np.pi  # the angle, unwound
    np.testing.assert_allclose(
        x, np.stack([np.cos(radius), np.sin(radius)], 1) * radius[:, None] / (4.5 * np.pi), atol=1e-5
    )
    assert load(density="swissroll").labels is None


def test_moons_are_two_half_circles():
    data = load(density="moons", noise=0.0)
    x = data.examples / 0.6
    x = np.where(data.labels[:, None] == 0, x, -x) + [0.5, 0.25]
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    assert x[:, 1].min() > -1e-5


def test_checkerboard_fills_the_dark_squares_evenly():
    data = load(density="checkerboard", num_samples=40_000)
    columns, rows = np.floor((data.examples.T + 1) * 2).astype(int)
    assert set(zip(columns.tolist(), rows.tolist(), strict=True)) == {
        (c, r) for c in range(4) for r in range(4) if (c + r) % 2 == 0
    }
    np.testing.assert_allclose(np.bincount(data.labels) / 40_000, 1 / 8, atol=0.01)
    np.testing.assert_array_equal(data.labels, columns * 2 + rows // 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": "gausians8"}, "did you mean 'gaussians8'"),
        ({"num_samples": 0}, "at least 1"),
        ({"noise": -0.1}, "noise"),
        ({"density": "checkerboard", "noise": 0.1}, "takes no noise"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        load(**options)
