"""The codec of images with 256 grey levels."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.codecs.base import Codec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(Codec):
    """The codec of uint8 images `[height, width, channels]`, whose x_0 = x / 127.5 - 1 is float32 in [-1, 1].

        x0 = Images().encode(np.zeros((1, 8, 8, 1), np.uint8))  # -1 everywhere

    Likelihoods are probabilities of grey levels in bits per dimension, and distances are root mean squared differences
    on [0, 255].
    """

    rank: ClassVar[int] = 3
    dtype: ClassVar[type[np.generic]] = np.uint8
    are_images: ClassVar[bool] = True
    clip_range: ClassVar[tuple[float, float] | None] = (-1.0, 1.0)
    discretized: ClassVar[bool] = True
    unit: ClassVar[str] = "bits/dim"
    distance_unit: ClassVar[str] = "RMSE on [0, 255]"
    error_unit: ClassVar[str] = "RMSE on [0, 255]"
    data_scale: ClassVar[float] = 127.5

    def encode(self, x):
        """Returns x_0 = x / 127.5 - 1: -1 for black and 1 for white, up to the rounding of float32 under `jax.jit`.

        Raises:
            TypeError: x is not uint8.
        """
        return _bytes(x).astype(jnp.float32) / 127.5 - 1.0

    def dequantize(self, x, key):
        """Returns x_0 = (x + u) / 128 - 1 with u uniform on [0, 1), as Song & Ermon 2019 dequantise data in [0, 1].

        Raises:
            TypeError: x is not uint8.
        """
        x = _bytes(x)
        return (x.astype(jnp.float32) + jax.random.uniform(key, x.shape)) / 128.0 - 1.0

    def to_data(self, x0):
        """Returns 127.5 (x_0 + 1) in uint8, rounded to the nearest and clipped.

        An array of NumPy gives an array of NumPy, and an array of JAX gives an array of JAX.
        """
        xp = np if isinstance(x0, np.ndarray) else jnp
        return xp.clip(xp.rint((x0 + 1.0) * 127.5), 0, 255).astype(xp.uint8)

    def in_unit(self, nats, shape):
        """Returns bits per dimension, nats / (D log 2), where D is the number of values of an example."""
        return nats / (math.log(2) * math.prod(shape))

    def distance(self, squared, size):
        """Returns the root mean squared difference, on [0, 255]."""
        return np.sqrt(squared / size)

    def picture(self, examples, labels=None, reference=None, most=None):
        """Draws a grid of images.

        The grid has a column for each class where the labels are of 2 to 20 classes: samples are drawn for the classes
        in turn.
        """
        from unified_diffusion.visualization import image_grid

        classes = 0 if labels is None else len(np.unique(labels[:most]))
        return image_grid(examples[:most], columns=classes if 1 < classes <= 20 else None)

    def strips(self, frames, times, rows=10):
        """Draws a row for each of the first images, with time from left to right, and a grid of all images a frame."""
        from unified_diffusion.visualization import image_grid

        shown = np.swapaxes(frames[:, :rows], 0, 1)
        strips = image_grid(shown.reshape(-1, *shown.shape[2:]), columns=len(frames))
        return strips, [image_grid(frame) for frame in frames]


def _bytes(x):
    x = jnp.asarray(x)
    if x.dtype != jnp.uint8:
        raise TypeError(f"images are uint8, not {x.dtype}")
    return x
