import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_diffusion.data import dequantize, to_model, to_uint8

ALL = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
def test_every_byte_survives_the_round_trip(as_array):
    back = to_uint8(as_array(to_model(ALL)))
    assert isinstance(back, np.ndarray) == (as_array is np.asarray)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, ALL)


def test_to_model_spans_minus_one_to_one():
    x = to_model(ALL)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, ALL.astype(np.float64) / 127.5 - 1, atol=1e-7)
    assert float(x[0]) == -1.0
    assert float(x[255]) == 1.0


def test_to_model_leaves_points_alone():
    points = np.array([[-3.0, 0.25]], np.float32)
    np.testing.assert_array_equal(to_model(points), points)


def test_to_model_refuses_other_integers():
    with pytest.raises(TypeError, match="int32"):
        to_model(np.array([1, 2], np.int32))


def test_to_uint8_clips():
    np.testing.assert_array_equal(to_uint8(np.array([-7.0, -1.0, 0.999, 1.0, 7.0])), [0, 0, 255, 255, 255])


@given(st.floats(-1, 1, width=32))
def test_to_uint8_rounds_to_the_nearest(value):
    exact = (value + 1) * 127.5
    assert abs(int(to_uint8(np.array([value], np.float32))[0]) - exact) <= 0.5 + 1e-4


def test_dequantize_fills_each_bin_evenly():
    x = np.repeat(ALL, 1000)
    y = np.asarray(dequantize(x, jax.random.key(0)), np.float64)
    assert y.min() >= -1
    assert y.max() <= 1
    u = (y + 1) * 128 - x
    assert u.min() >= 0
    assert u.max() <= 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.001
    with pytest.raises(TypeError, match="float32"):
        dequantize(np.zeros(3, np.float32), jax.random.key(0))
