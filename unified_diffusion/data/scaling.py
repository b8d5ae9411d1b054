"""Between uint8 at the borders and float32 in [-1, 1] inside."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key, Shaped, UInt8


def to_model(x: Shaped[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """uint8 [0, 255] to float32 [-1, 1] by x / 127.5 - 1; floats (points) pass unchanged.

    Raises:
        TypeError: any other dtype.
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if x.dtype != jnp.uint8:
        raise TypeError(f"to_model takes uint8 or floats, not {x.dtype}")
    return x.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(x: Float[Array | np.ndarray, "*shape"]) -> UInt8[Array | np.ndarray, "*shape"]:
    """Floats in [-1, 1] to uint8 [0, 255], clipped and rounded to the nearest; NumPy stays NumPy, JAX stays JAX."""
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp.clip(xp.rint((x + 1.0) * 127.5), 0, 255).astype(xp.uint8)


def dequantize(x: Shaped[Array | np.ndarray, "*shape"], key: Key[Array, ""]) -> Float32[Array, "*shape"]:
    """uint8 to float32 in [-1, 1]: (x + u) / 128 - 1 with u uniform on [0, 1). Song & Ermon 2019, on doubled data."""
    x = jnp.asarray(x)
    if x.dtype != jnp.uint8:
        raise TypeError(f"dequantize takes uint8, not {x.dtype}")
    return (x.astype(jnp.float32) + jax.random.uniform(key, x.shape)) / 128.0 - 1.0
