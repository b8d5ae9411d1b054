"""The codecs against closed forms: the round trip, the noise of a grey level, finiteness, units and distances."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from unified_diffusion import UserError
from unified_diffusion.codecs import CODECS, Codec, Images, Points, codec_for
from unified_diffusion.errors import NotFinite
from unified_diffusion.visualization import image_grid

LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_all_grey_levels_survive_the_round_trip(on_device, traced):
    x0 = (jax.jit(Images().encode) if traced else Images().encode)(LEVELS)
    assert x0.dtype == np.float32
    np.testing.assert_allclose(x0, 2 * (LEVELS / 255.0) - 1, atol=2e-7)
    if not traced:  # XLA multiplies by 1 / 127.5 in place of the division
        assert (float(x0.min()), float(x0.max())) == Images.clip_range
    back = Images().decode(x0 if on_device else np.asarray(x0))
    assert isinstance(back, jax.Array) == on_device
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, LEVELS)


def test_decoded_images_are_rounded_and_clipped():
    middle = (np.arange(256) + np.array([[-0.49], [0.0], [0.49]])) / 127.5 - 1
    np.testing.assert_array_equal(Images().decode(middle), np.tile(np.arange(256), (3, 1)))
    np.testing.assert_array_equal(Images().decode(np.array([[-3.0, 3.0]])), [[0, 255]])


def test_dequantised_images_fill_their_own_grey_level_evenly():
    x = np.repeat(LEVELS, 400, axis=0)
    x0 = np.asarray(jax.jit(Images().dequantize)(x, jax.random.key(0)), np.float64)
    noise = (x0 + 1) * 128 - x
    assert noise.min() >= 0
    assert noise.max() <= 1
    assert x0.min() >= -1
    assert x0.max() <= 1
    assert stats.kstest(noise.ravel()[::7], "uniform").pvalue > 1e-3
    with pytest.raises(UserError, match="codec Points has no grey levels"):
        Points().dequantize(np.zeros((2, 2), np.float32), jax.random.key(0))


def test_points_pass_unchanged():
    points = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32) * 7
    np.testing.assert_array_equal(jax.jit(Points().encode)(points), points)
    assert Points().decode(points).dtype == np.float32
    np.testing.assert_array_equal(Points().decode(points), points)


@pytest.mark.parametrize("codec", [Images(), Points()])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_before_they_are_cast(codec, value):
    x0 = np.zeros((4, 2, 2, 1), np.float32)
    codec.check_finite(x0)
    codec.check_finite(x0[:0])
    x0[1:3, 0, 1] = value
    with pytest.raises(NotFinite, match="2 of 4 samples have values that are NaN or infinite, .* number 1"):
        codec.decode(x0)
    with pytest.raises(UserError, match="2 of 4 completions"):
        codec.check_finite(x0, "completions")


def test_units_of_likelihoods():
    """A uniform density over D values of 256 levels costs D log 256 nats, which are 8 bits per dimension."""
    shape = (4, 4, 3)
    assert Images.unit == "bits/dim"
    assert Images().in_unit(math.prod(shape) * math.log(256), shape) == pytest.approx(8, rel=1e-15)
    assert Points.unit == "nats"
    normal = stats.multivariate_normal(np.zeros(2)).entropy()
    assert Points().in_unit(normal, (2,)) == normal == pytest.approx(1 + math.log(2 * math.pi))
    assert (Images.discretized, Points.discretized) == (True, False)
    assert (Images.clip_range, Points.clip_range) == ((-1, 1), None)


def test_distances():
    a, b = np.random.default_rng(1).integers(0, 256, (2, 1, 4, 4, 3))
    squared = ((a - b) ** 2).sum()
    found = Images().distance(np.array([squared]), a.size)
    assert Images.distance_unit == Images.error_unit == "RMSE on [0, 255]"
    x0, y0 = (np.asarray(Images().encode(x.astype(np.uint8)), np.float64) for x in (a, b))
    np.testing.assert_allclose(found, Images.data_scale * np.sqrt(np.mean((x0 - y0) ** 2)), rtol=1e-6)
    np.testing.assert_allclose(found, np.sqrt(np.mean((a - b) ** 2.0)), rtol=1e-12)
    assert Points().distance(np.array([25.0]), 2) == 5
    assert (Points.distance_unit, Points.data_scale) == ("data units", 1)


def test_the_shape_of_the_data_chooses():
    assert {name: codec() for name, codec in CODECS.items()} == {"images": Images(), "points": Points()}
    assert codec_for((8, 8, 1)) == Images()
    assert codec_for([2]) == Points()
    with pytest.raises(UserError, match="no codec is for examples of shape"):
        codec_for((4, 4))
    with pytest.raises(UserError, match="Images is for examples with 3 axes"):
        Images().check_shape((2,))
    assert Images().encoded_shape((8, 8, 3)) == (8, 8, 3)
    assert Points().encoded_shape((2,)) == (2,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(Images):
    """Images in [0, 1], of every second row and column."""

    def encode(self, x):
        return jnp.asarray(x)[:, ::2, ::2].astype(jnp.float32) / 255

    def to_data(self, x0):
        return Images().to_data(2 * x0.repeat(2, axis=1).repeat(2, axis=2) - 1)


class Whole(Halved):
    def encode(self, x):
        return jnp.asarray(x)


def test_a_codec_may_change_the_shape():
    assert Halved().encoded_shape((8, 6, 3)) == (4, 3, 3)
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), np.uint8)
    np.testing.assert_array_equal(Halved().decode(np.asarray(Halved().encode(x)))[:, ::2, ::2], x[:, ::2, ::2])
    with pytest.raises(UserError, match="encodes 2 examples as uint8"):
        Whole().encoded_shape((8, 8, 1))


def test_codecs_are_values():
    assert Images() == Images() != Points()
    assert len({Images(), Images(), Points()}) == 2
    with pytest.raises(TypeError, match="abstract"):
        Codec()


def test_pictures():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(Images().picture(images, most=9), image_grid(images[:9]))
    by_class = Images().picture(images, labels=np.arange(12) % 4)
    np.testing.assert_array_equal(by_class, image_grid(images, columns=4))
    strip, frames = Images().strips(images.reshape(3, 4, 8, 8, 1), [1000, 500, 0], rows=2)
    np.testing.assert_array_equal(strip, image_grid(images[[0, 4, 8, 1, 5, 9]], columns=3))
    np.testing.assert_array_equal(frames[1], image_grid(images[4:8]))
    points = np.random.default_rng(0).normal(size=(2, 30, 2)).astype(np.float32)
    alone, over = Points().picture(points[0]), Points().picture(points[0], reference=points[1])
    assert alone.dtype == over.dtype == np.uint8
    assert not np.array_equal(alone, over)
    np.testing.assert_array_equal(alone, Points().picture(points[0], most=3))
    strip, frames = Points().strips(points, [1.0, 0.5])
    assert strip.shape[1] == 2 * frames[0].shape[1]
