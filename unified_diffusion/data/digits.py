"""Handwritten digits of 8 x 8 pixels: the built-in data, small enough for tests, tutorials and a laptop."""

import numpy as np

from unified_diffusion.data.dataset import Dataset
from unified_diffusion.data.hashing import random_bits, seed_from
from unified_diffusion.data.splits import check_split


def load(split: str = "train") -> Dataset:
    """Reads scikit-learn's 1,797 digits: uint8 [N, 8, 8, 1], 10 labels, 1,498 to train and 299 to test.

    Nothing is downloaded, since scikit-learn carries the data: the test part of Alpaydin & Kaynak 1998, UCI "Optical
    Recognition of Handwritten Digits". A gray level v in 0..16 becomes round(v * 255 / 16).
    """
    check_split(split)
    from sklearn.datasets import load_digits  # imported here, since scikit-learn takes a second to load

    pixels, target = load_digits(return_X_y=True)
    chosen = held_out(target) == (split == "test")
    images = np.rint(pixels[chosen].reshape(-1, 8, 8, 1) * (255.0 / 16.0)).astype(np.uint8)
    return Dataset(images, target[chosen].astype(np.int32), tuple("0123456789"))


def held_out(labels):
    """Returns booleans [N], true for about a sixth of each class. Our own hash chooses, which no library can change."""
    order = random_bits(seed_from("digits"), np.arange(len(labels)))
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(order[members])[: round(len(members) / 6)]]] = True
    return chosen
