import numpy as np
from sklearn.datasets import load_digits

from unified_diffusion.data import SOURCES
from unified_diffusion.data.digits import held_out


def test_the_two_splits_are_all_digits_once():
    parts = {split: SOURCES["digits"](split) for split in ("train", "test")}
    assert len(parts["train"]) + len(parts["test"]) == 1797
    assert parts["train"].shape == (8, 8, 1)
    assert parts["train"].class_names == tuple("0123456789")
    rows = {
        split: {(row.tobytes(), label) for row, label in zip(d.examples, d.labels, strict=True)}
        for split, d in parts.items()
    }
    source = load_digits()
    levels = np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255], np.uint8)
    expected = {(levels[i.astype(int)].tobytes(), n) for i, n in zip(source.images, source.target, strict=True)}
    assert rows["train"] | rows["test"] == expected


def test_every_class_is_held_out_alike():
    train, test = (np.bincount(SOURCES["digits"](split).labels) for split in ("train", "test"))
    np.testing.assert_array_equal(test, np.rint((train + test) / 6))


def test_the_split_is_the_same_for_ever():
    assert SOURCES["digits"]("train").fingerprint == "6ffd9159acfece0b"
    assert SOURCES["digits"]("test").fingerprint == "19cbe481857ea1f3"
    np.testing.assert_array_equal(held_out(np.zeros(6, int)).sum(), 1)
