"""Handwritten digits, 8 x 8: the built-in data, for tests, tutorials and a laptop."""

import numpy as np

from unified_diffusion.data.dataset import Dataset
from unified_diffusion.data.hashing import random_bits, seed_from
from unified_diffusion.data.splits import check_split


def load(split: str = "train") -> Dataset:
    """scikit-learn's 1,797 digits: uint8 [N, 8, 8, 1], 10 labels, 1,498 to train and 299 to test. No download.

    The gray levels 0..16 become round(v * 255 / 16). Alpaydin & Kaynak 1998, UCI "Optical Recognition of Handwritten
    Digits" (its test part, as scikit-learn carries it).
    """
    check_split(split)
    from sklearn.datasets import load_digits  # imported here: it takes a second

    digits = load_digits()
    chosen = held_out(digits.target) == (split == "test")
    images = np.rint(digits.images[chosen, :, :, None] * (255.0 / 16.0)).astype(np.uint8)
    return Dataset(images, digits.target[chosen].astype(np.int32), tuple("0123456789"))


def held_out(labels):
    """True [N] for about a sixth of every class, chosen by our own hash, which no library can change."""
    order = random_bits(seed_from("digits"), np.arange(len(labels)))
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(order[members])[: round(len(members) / 6)]]] = True
    return chosen
