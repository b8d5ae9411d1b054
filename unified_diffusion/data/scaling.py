"""Between uint8 at the borders and float32 in [-1, 1] inside, by the type of an array: see `codecs` for the rules."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key, Shaped, UInt8

from unified_diffusion.codecs import Images, Points


def to_model(x: Shaped[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """uint8 [0, 255] to float32 [-1, 1] by x / 127.5 - 1, as `Images` has it; floats (points) pass unchanged.

    Raises:
        TypeError: any other dtype.
    """
    x = jnp.asarray(x)
    return (Points() if jnp.issubdtype(x.dtype, jnp.floating) else Images()).encode(x)


def to_uint8(x: Float[Array | np.ndarray, "*shape"]) -> UInt8[Array | np.ndarray, "*shape"]:
    """Floats in [-1, 1] to uint8 [0, 255], clipped and rounded to the nearest; NumPy stays NumPy, JAX stays JAX.

    Raises:
        NotFinite: an array of NumPy has values that are NaN or infinite.
    """
    return Images().decode(x, "images")


def dequantize(x: Shaped[Array | np.ndarray, "*shape"], key: Key[Array, ""]) -> Float32[Array, "*shape"]:
    """uint8 to float32 in [-1, 1]: (x + u) / 128 - 1 with u uniform on [0, 1), as `Images` has it.

    Raises:
        TypeError: x is not uint8.
    """
    return Images().dequantize(x, key)
