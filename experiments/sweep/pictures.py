"""Pictures inside the page: PNG as data URIs, small enough that forty runs fit in it."""

import dataclasses
import math
import zipfile

import numpy as np
from PIL import Image

from experiments.pages import data_uri
from unified_diffusion.visualization import image_grid

# A picture that a run drew itself is scaled down to this many pixels a side.
LARGEST = 800


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as the page holds it.

    Attributes:
        uri: data:image/png;base64,…
        width, height: in pixels of the picture.
        pixelated: whether it is to be enlarged pixel by pixel.
    """

    uri: str
    width: int
    height: int
    pixelated: bool


def sample_picture(directory):
    """The first samples of a run, small images in a square and points as the run drew them; None without samples."""
    points = directory / "samples.png"
    try:
        images = first_images(directory / "samples.npz", fitting)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    if images is None:
        return drawn_picture(points)
    return _picture(Image.fromarray(image_grid(images, min_side=1, gap=1)), pixelated=True)


def drawn_picture(path):
    """A picture file, scaled down if it is large; None where there is none, or it cannot be read."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError:
        return None
    return _picture(image, pixelated=False)


def first_images(archive, number):
    """The first images of a samples.npz, uint8 `[N, H, W, C]`, read without those after them; None if it holds points.

    Args:
        archive: the path; its `arr_0` is read.
        number: a function of (height, width) that says how many.

    Raises:
        OSError, ValueError, KeyError, zipfile.BadZipFile: it cannot be read.
    """
    with zipfile.ZipFile(archive) as members, members.open("arr_0.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](file)
        if len(shape) != 4 or dtype != np.uint8 or fortran:
            return None
        count = min(shape[0], number(*shape[1:3]))
        data = file.read(count * math.prod(shape[1:]))
    return np.frombuffer(data, np.uint8).reshape(count, *shape[1:])


def fitting(height, width):
    """How many images of this size are shown: 64 of digits, 36 of CIFAR-10, fewer of larger ones."""
    side = max(height, width)
    return 64 if side <= 16 else 36 if side <= 32 else 16 if side <= 64 else 9 if side <= 128 else 4


def _picture(image, pixelated):
    """In a palette of 256 colours, a quarter of the size: exact for grey, and close for the rest."""
    shrink = min(1.0, LARGEST / max(image.size))
    if shrink < 1:
        image = image.resize((round(image.width * shrink), round(image.height * shrink)), Image.Resampling.LANCZOS)
    return Picture(data_uri(image), *image.size, pixelated and shrink == 1)
