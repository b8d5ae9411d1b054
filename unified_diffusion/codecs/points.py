"""The codec of points, which a model is shown as they are."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from unified_diffusion.codecs.base import Codec

LIMIT = 2.2  # points on their way from noise to data are shown in the square [-LIMIT, LIMIT]²


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points(Codec):
    """The codec of points `[dimensions]` in float32, with x_0 = x.

    Likelihoods are densities in nats per example, and distances are Euclidean, in the data's own unit.
    """

    rank: ClassVar[int] = 1
    dtype: ClassVar[type[np.generic]] = np.float32
    num_pictured: ClassVar[int] = 1000
    shows_data: ClassVar[bool] = True

    def encode(self, x):
        """Returns x_0 = x.

        Raises:
            TypeError: x holds no floating-point numbers.
        """
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"points are floats, not {x.dtype}")
        return x

    def to_data(self, x0):
        """Returns x = x_0."""
        return x0

    def picture(self, examples, labels=None, reference=None, most=None):
        """Draws a scatter plot of all points in the plane, over the reference."""
        from unified_diffusion.visualization import plot_points

        return plot_points(examples, reference)

    def strips(self, frames, times, rows=10):
        """Draws a panel of all points for each time, in one row and as one picture per frame."""
        from unified_diffusion.visualization import plot_clouds

        titles = [f"t = {time:.4g}" for time in times]
        panels = dict(zip(titles, frames, strict=True))
        return plot_clouds(panels, LIMIT), [plot_clouds({title: frame}, LIMIT) for title, frame in panels.items()]
