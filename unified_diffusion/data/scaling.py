"""Scaling between the data, uint8 or points, and the model's float32 in [-1, 1]; `codecs` has the rules."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key, Shaped, UInt8

from unified_diffusion.codecs import Images, Points


def to_model(x: Shaped[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Converts uint8 in [0, 255] to float32 in [-1, 1] by x / 127.5 - 1, as `Images` does; floats pass unchanged.

    Raises:
        TypeError: x is neither uint8 nor floating-point.
    """
    x = jnp.asarray(x)
    return (Points() if jnp.issubdtype(x.dtype, jnp.floating) else Images()).encode(x)


def to_uint8(x: Float[Array | np.ndarray, "*shape"]) -> UInt8[Array | np.ndarray, "*shape"]:
    """Converts floats in [-1, 1] to uint8 in [0, 255], clipped and rounded to the nearest.

    An array of NumPy gives an array of NumPy, and an array of JAX gives an array of JAX.

    Raises:
        NotFinite: an array of NumPy has values that are NaN or infinite.
    """
    return Images().decode(x, "images")


def dequantize(x: Shaped[Array | np.ndarray, "*shape"], key: Key[Array, ""]) -> Float32[Array, "*shape"]:
    """Converts uint8 to float32 in [-1, 1] by (x + u) / 128 - 1 with u uniform on [0, 1), as `Images` does.

    Raises:
        TypeError: x is not uint8.
    """
    return Images().dequantize(x, key)
