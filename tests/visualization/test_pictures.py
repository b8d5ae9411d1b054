"""Pictures show what they were given."""

import numpy as np
from PIL import Image

from unified_diffusion import visualization


def test_every_image_stands_at_its_place():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 1), 40, np.uint8)
    picture = visualization.image_grid(images, columns=3, min_side=16, gap=2)
    assert picture.shape == (2 * 18 + 2, 3 * 18 + 2, 3)
    for index in range(5):
        top, left = 2 + index // 3 * 18, 2 + index % 3 * 18
        np.testing.assert_array_equal(picture[top : top + 16, left : left + 16], 40 * index)
    np.testing.assert_array_equal(picture[-18:, -18:], 255)
    np.testing.assert_array_equal(picture[:2], 255)


def test_colours_are_kept_and_large_images_are_not_enlarged(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 36, 3), np.uint8)
    picture = visualization.image_grid(image)
    np.testing.assert_array_equal(picture[2:42, 2:38], image[0])
    visualization.save_png(picture, tmp_path / "x.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), picture)


def test_points_are_drawn_where_they_are():
    def blue(points):
        picture = visualization.plot_points(np.asarray(points, np.float32)).astype(int)
        rows, columns = np.nonzero((picture[..., 2] - picture[..., 0] > 100) & (np.arange(600)[:, None] > 120))
        return rows.mean(), columns.mean()

    left, right = blue([[-0.9, -0.5]] * 3), blue([[0.9, -0.5]] * 3)
    assert left[1] < 200 < 400 < right[1]
    assert abs(left[0] - right[0]) < 2


def test_curves_have_their_pictures():
    plots = [
        visualization.plot_levels(np.asarray([3.0, 0.0, -3.0]), np.asarray([0.9, 0.4, 0.1]), weight)
        for weight in (np.ones(3), np.asarray([1.0, 2.0, 4.0]))
    ]
    assert plots[0].shape == plots[1].shape
    assert not np.array_equal(*plots)
    assert visualization.plot_training([1, 2, 3], [1.0, 0.5, 0.3]).ndim == 3
