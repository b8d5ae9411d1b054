"""Many images in one."""

import math

import numpy as np
from PIL import Image


def image_grid(images, columns=None, min_side=32, gap=2):
    """One picture `[H, W, 3]` uint8 of `images` `[N, H, W, 1 or 3]` uint8, a square or `columns` wide.

    Images smaller than `min_side` are enlarged by a whole number, pixel by pixel, so that 8×8 digits can be read.
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
    """Writes a picture `[H, W, 3]` uint8."""
    Image.fromarray(picture).save(path)


def save_gif(pictures, path, milliseconds):
    """Writes pictures `[H, W, 3]` uint8 as an animation that starts over; `milliseconds` is how long each stays."""
    first, *others = map(Image.fromarray, pictures)
    first.save(path, save_all=True, append_images=others, duration=list(milliseconds), loop=0)
