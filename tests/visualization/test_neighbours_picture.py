"""The picture of nearest training images."""

import numpy as np
import pytest

from unified_diffusion.visualization import neighbours_picture


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (60, 3)])
def test_every_image_is_in_it(side, channels):
    generator = np.random.default_rng(0)
    samples = generator.integers(0, 200, (3, side, side, channels), dtype=np.uint8)
    nearest = generator.integers(0, 200, (3, 2, side, side, channels), dtype=np.uint8)
    distances = np.array([[1.0, 2.0], [10.5, 20.5], [100.0, 200.0]])
    picture = neighbours_picture(samples, nearest, distances, "a title that is longer than the picture is wide")
    assert picture.dtype == np.uint8
    scale = -(-48 // side)
    for image in [*samples, *nearest.reshape(6, side, side, channels)]:
        large = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
        large = np.broadcast_to(large, (*large.shape[:2], 3))
        windows = np.lib.stride_tricks.sliding_window_view(picture[..., 0], large.shape[:2])
        # Where the first row of the red channel is, there is the whole image.
        starts = np.argwhere(np.all(windows[:, :, 0] == large[0, :, 0], axis=-1))
        height, width = large.shape[:2]
        found = [np.array_equal(picture[top : top + height, left : left + width], large) for top, left in starts]
        assert sum(found) == 1
    # Text of another distance is another picture.
    assert np.any(
        neighbours_picture(samples, nearest, distances + 1) != neighbours_picture(samples, nearest, distances)
    )
