import io

import numpy as np
import pytest
from PIL import Image

from unified_diffusion.data import images
from unified_diffusion.data.images import UnreadableImage, decode


def encode(array, kind="png", mode=None, **options):
    out = io.BytesIO()
    Image.fromarray(array, mode).save(out, kind, **options) if mode else Image.fromarray(array).save(
        out, kind, **options
    )
    return out.getvalue()


RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm", "tga"])
def test_lossless_formats_keep_their_pixels(kind):
    np.testing.assert_array_equal(decode(encode(RGB, kind), None, 3), RGB)
    np.testing.assert_array_equal(decode(encode(RGB, kind), 6, 3), RGB[:, 1:7])


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_lossy_formats_are_read(kind):
    flat = np.full((40, 50, 3), (200, 100, 50), np.uint8)
    assert np.abs(decode(encode(flat, kind), 8, 3).astype(int) - [200, 100, 50]).max() < 6


def test_resizing_averages_and_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    resized = decode(encode(stripes), 32, 3).astype(int)
    assert np.abs(resized[:, 2:-2] - 127.5).max() < 4


def test_a_large_jpeg_is_read_at_reduced_size_with_the_same_result():
    y, x = np.mgrid[:600, :800]
    smooth = np.stack([x * 255 / 800, y * 255 / 600, (x + y) * 255 / 1400], -1).astype(np.uint8)
    exact = Image.fromarray(smooth).resize((32, 32), Image.Resampling.LANCZOS, box=(100, 0, 700, 600))
    assert np.abs(decode(encode(smooth, "jpeg", quality=95), 32, 3).astype(int) - np.asarray(exact)).max() <= 3


def test_small_images_are_enlarged():
    assert decode(encode(RGB), 32, 3).shape == (32, 32, 3)


def test_gray_is_luma_and_rgb_of_gray_is_gray():
    np.testing.assert_array_equal(decode(encode(RGB), None, 1)[..., 0], np.asarray(Image.fromarray(RGB).convert("L")))
    gray = RGB[..., 0]
    np.testing.assert_array_equal(decode(encode(gray), None, 3), np.repeat(gray[..., None], 3, -1))


def test_transparency_lies_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = [0, 128, 255]
    np.testing.assert_allclose(decode(encode(rgba), None, 3)[0, :, 0], [255, 127, 0], atol=1)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    out = io.BytesIO()
    palette.save(out, "png", transparency=0)
    np.testing.assert_array_equal(decode(out.getvalue(), None, 3)[0], [[255, 255, 255], [40, 50, 60]])


def test_sixteen_bits_are_scaled_to_eight():
    deep = np.array([[0, 257, 257 * 100, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(encode(deep), None, 1)[0, :, 0], [0, 1, 100, 255])


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    np.testing.assert_array_equal(decode(encode(RGB, "png", exif=exif), None, 3), np.rot90(RGB, -1))


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    out = io.BytesIO()
    frames[0].save(out, "gif", save_all=True, append_images=frames[1:])
    assert decode(out.getvalue(), None, 1).max() == 10


@pytest.mark.parametrize(
    "data", [b"", b"not an image", encode(RGB)[:60], encode(RGB)[:-30], b"\x89PNG\r\n\x1a\n" + bytes(50)]
)
def test_damaged_files_are_unreadable(data):
    with pytest.raises(UnreadableImage):
        decode(data, 8, 3)


def test_a_decompression_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 47)
    with pytest.raises(UnreadableImage, match="8 x 6 pixels"):
        decode(encode(RGB), 8, 3)


def test_floating_point_images_are_refused():
    with pytest.raises(UnreadableImage, match="range"):
        decode(encode(np.ones((4, 4), np.float32), "tiff"), 4, 1)


def test_formats_that_run_other_programs_are_refused():
    assert not {"EPS", "WMF"} & set(images.formats())
    assert {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif"} <= images.extensions()
    assert not {".eps", ".ps", ".pdf", ".txt", ".csv", ".json", ".npz"} & images.extensions()
    with pytest.raises(UnreadableImage):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", 8, 3)
