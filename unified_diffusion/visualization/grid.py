"""A grid of many images in one picture, and files of pictures."""

import math

import numpy as np
from PIL import Image

from unified_diffusion.files import write_atomically


def image_grid(images, columns=None, min_side=32, gap=2):
    """Returns one picture `[H, W, 3]` of uint8 with all images in a grid.

        save_png(image_grid(samples), "samples.png")

    Args:
        images: uint8 `[N, H, W, 1 or 3]`.
        columns: the number of images in a row; None makes the grid about as many images high as wide.
        min_side: the side in pixels to which smaller images are enlarged by a whole factor, so that 8×8 digits can be
            read.
        gap: the white space between images, in pixels.
    """
    number, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    scale = max(1, math.ceil(min_side / max(height, width)))
    images = np.repeat(np.repeat(images, scale, axis=1), scale, axis=2)
    height, width = height * scale + gap, width * scale + gap
    picture = np.full((rows * height + gap, columns * width + gap, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = gap + index // columns * height, gap + index % columns * width
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return np.repeat(picture, 3, axis=2) if channels == 1 else picture


def save_png(picture, path):
    """Writes a picture, uint8 `[H, W, 3]`, to a PNG file, whole or not at all."""
    write_atomically(path, lambda file: Image.fromarray(picture).save(file, "PNG"))


def save_gif(pictures, path, milliseconds):
    """Writes pictures, uint8 `[H, W, 3]` each, to a GIF file as an animation that repeats, whole or not at all.

    `milliseconds` has the time for which each picture is shown.
    """
    first, *others = map(Image.fromarray, pictures)
    how = {"save_all": True, "append_images": others, "duration": list(milliseconds), "loop": 0}
    write_atomically(path, lambda file: first.save(file, "GIF", **how))
