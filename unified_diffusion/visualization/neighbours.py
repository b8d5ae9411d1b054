"""A picture of samples beside the training images that are nearest to them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def neighbours_picture(samples, nearest, distances, title="", min_side=48):
    """Returns a picture, uint8 `[H, W, 3]`, that has a row for each sample.

    A row shows the sample in a frame, and then its nearest training images with their distances below.

    Args:
        samples: uint8 `[N, H, W, 1 or 3]`.
        nearest: the nearest training images of each sample, uint8 `[N, k, H, W, 1 or 3]`.
        distances: the distances of these images from their samples, `[N, k]`.
        title: a line of text above the rows.
        min_side: the side in pixels to which smaller images are enlarged by a whole factor.
    """
    number, k = distances.shape
    height, width = samples.shape[1:3]
    scale = max(1, -(-min_side // min(height, width)))
    height, width, gap, text, margin = height * scale, width * scale, 6, 14, 8
    left = margin + width + 3 * gap
    font = ImageFont.load_default(size=11)
    size = (left + k * (width + gap) + margin, 2 * margin + text + number * (height + text + gap))
    needed = int(font.getlength(title)) + 2 * margin
    canvas = Image.new("RGB", (max(size[0], needed), size[1]), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((margin, margin // 2), title, "black", font)
    for row in range(number):
        top = 2 * margin + text + row * (height + text + gap)
        draw.rectangle((margin - 3, top - 3, margin + width + 2, top + height + 2), outline="#d62728", width=2)
        canvas.paste(_enlarged(samples[row], scale), (margin, top))
        for column in range(k):
            place = left + column * (width + gap)
            canvas.paste(_enlarged(nearest[row, column], scale), (place, top))
            draw.text((place, top + height + 1), f"{distances[row, column]:.1f}", "#555555", font)
    return np.asarray(canvas)


def _enlarged(image, scale):
    image = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
    return Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).copy())
