import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unified_diffusion.models.layers import (
    GroupNorm,
    at_each_pixel,
    convolve,
    dense,
    dropout,
    dropout_keys,
    group_count,
)


@pytest.mark.parametrize(
    ("channels", "limit", "count"),
    [(128, 32, 32), (256, 32, 32), (384, 32, 32), (64, 32, 16), (32, 32, 8), (48, 32, 12), (8, 32, 2), (6, 32, 1)],
)
def test_group_count(channels, limit, count):
    assert group_count(channels, limit) == count


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (2, 3), (3, 3)])
def test_convolve_is_the_plain_convolution_on_tiny_images_too(size):
    x = jax.random.normal(jax.random.key(0), (3, *size, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 4, 5))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **options)
    np.testing.assert_allclose(convolve(x, kernel, (1, 1), "SAME", **options), expected, atol=1e-5)


def test_group_norm_keeps_float32_statistics_under_bfloat16():
    x = 100 + jax.random.normal(jax.random.key(0), (2, 8, 8, 16))
    exact = GroupNorm(16, num_groups=4, dtype=jnp.float32)(x)
    rough = GroupNorm(16, num_groups=4, dtype=jnp.bfloat16)(x)
    assert rough.dtype == jnp.bfloat16
    np.testing.assert_allclose(rough.astype(jnp.float32), exact, atol=0.02)


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean():
    out = np.asarray(dropout(jnp.ones((200, 500)), 0.3, jax.random.key(0)))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((out == 0).mean() - 0.3) < 0.006  # four standard deviations
    assert np.array_equal(dropout(jnp.ones(5), 0.3, None), np.ones(5))


def test_dropout_keys_differ_from_block_to_block_and_are_none_when_off():
    keys = dropout_keys(nnx.Rngs(dropout=0), 0.1)
    drawn = [tuple(np.asarray(jax.random.key_data(next(keys)))) for _ in range(20)]
    assert len(set(drawn)) == 20
    assert next(dropout_keys(None, 0.1)) is None
    assert next(dropout_keys(nnx.Rngs(0), 0.0)) is None


def test_at_each_pixel_is_the_layer():
    layer = dense(4, 7, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    np.testing.assert_allclose(at_each_pixel(layer, x), layer(x), atol=1e-6)
