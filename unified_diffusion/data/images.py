"""Decoding: the bytes of one image file become one uint8 array."""

import functools
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 2**26  # the largest file that is read
MAX_PIXELS = 2**26  # the largest image, 8192 x 8192; checked before decoding, against decompression bombs

# Pillow lists these formats, but it runs another program for them (EPS, WMF) or cannot decode them by itself.
_REFUSED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})


class UnreadableImage(Exception):
    """The error for a file that is not a usable image; such files are named, counted and skipped."""


@functools.cache
def formats():
    """Returns the names of the image formats that are read, such as "PNG"."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _REFUSED))


@functools.cache
def extensions():
    """Returns the file extensions of `formats()` in lower case, with the dot."""
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats())


def decode(data: bytes, image_size: int | None, channels: int) -> np.ndarray:
    """Decodes one image file and fits the image to a square.

    EXIF orientation is applied, transparent images are laid on white, 16-bit gray is scaled to 8 bits, and an animation
    gives its first frame. Then the largest centred square is resized to `image_size` (Lanczos, antialiased).

    Args:
        data: the bytes of the file, in any format of `formats()`.
        image_size: the side of the square in pixels, or None to leave the image as it is.
        channels: 3 (RGB) or 1 (gray).

    Returns:
        uint8 [H, W, channels].

    Raises:
        UnreadableImage: the file cannot be decoded; the message gives the reason.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
            if image_size is not None:
                # JPEG can skip detail while decoding; at three times the target size the resized image loses nothing.
                image.draft(None, (3 * image_size, 3 * image_size))
            image = opaque(ImageOps.exif_transpose(image), "RGB" if channels == 3 else "L")
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image") from error
    except Exception as error:  # Pillow's parsers raise errors of many kinds on damaged files
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error
    if image_size is not None:
        image = centre_square(image, image_size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def opaque(image, mode):
    """Returns the image in mode "RGB" or "L", with transparency laid on white and 16-bit gray scaled to 8 bits."""
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        image = Image.fromarray(np.clip(np.rint(np.asarray(image) / 257.0), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def centre_square(image, size):
    """Returns the largest centred square of the image, resized to `size` x `size`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
