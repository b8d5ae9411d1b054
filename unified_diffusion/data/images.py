"""One image file, in bytes, to one uint8 array."""

import functools
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 2**26  # of one file
MAX_PIXELS = 2**26  # of one image, 8192 x 8192: checked before decoding, against decompression bombs

# Formats that Pillow lists but that run another program (EPS, WMF) or that it cannot decode by itself.
_REFUSED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})


class UnreadableImage(Exception):
    """One file that is not a usable image: named, counted and skipped."""


@functools.cache
def formats():
    """The names of the formats that are read."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _REFUSED))


@functools.cache
def extensions():
    """The file extensions of those formats, lower case, with the dot."""
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats())


def decode(data: bytes, image_size: int | None, channels: int) -> np.ndarray:
    """Decodes one file and fits it to a square.

    EXIF orientation is applied; transparency is laid on white; 16-bit gray is scaled to 8; of an animation the first
    frame is taken. Then the largest centred square is resized (Lanczos, antialiased), unless it has the size already.

    Args:
        data: the bytes of the file, in any format of `formats()`.
        image_size: side of the square, or None to leave the image as it is.
        channels: 3 (RGB) or 1 (gray).

    Returns:
        uint8 [H, W, channels].

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
            if image_size is not None:
                # JPEG can skip detail while decoding; three times the target leaves the resize nothing to miss.
                image.draft(None, (3 * image_size, 3 * image_size))
            image = opaque(ImageOps.exif_transpose(image), "RGB" if channels == 3 else "L")
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image") from error
    except Exception as error:  # damaged files raise whatever Pillow's parsers run into
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error
    if image_size is not None:
        image = centre_square(image, image_size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def opaque(image, mode):
    """The image in mode "RGB" or "L": transparency on white, 16-bit gray scaled to 8 bits."""
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        image = Image.fromarray(np.clip(np.rint(np.asarray(image) / 257.0), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def centre_square(image, size):
    """The largest centred square, resized to size x size."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
