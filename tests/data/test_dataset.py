import hashlib
import subprocess
import sys

import numpy as np
import pytest

from unified_diffusion.data import SOURCES, Dataset, StreamedDataset, epoch
from unified_diffusion.data.images import UnreadableImage
from unified_diffusion.errors import UserError

IMAGES = np.arange(5 * 2 * 3 * 1, dtype=np.uint8).reshape(5, 2, 3, 1)
LABELS = np.array([0, 2, 1, 0, 2], np.int32)


def test_properties():
    dataset = Dataset(IMAGES, LABELS, ("a", "b", "c"))
    assert (len(dataset), dataset.shape, dataset.num_classes) == (5, (2, 3, 1), 3)
    assert Dataset(IMAGES, LABELS).num_classes == 3
    assert Dataset(IMAGES).num_classes == 0
    assert Dataset(np.zeros((4, 2), np.float32)).shape == (2,)


def test_gather_follows_the_indices():
    batch = Dataset(IMAGES, LABELS).gather(np.array([4, 0, 4]))
    np.testing.assert_array_equal(batch["x0"], IMAGES[[4, 0, 4]])
    np.testing.assert_array_equal(batch["label"], [2, 0, 2])
    assert batch["label"].dtype == np.int32
    assert set(Dataset(IMAGES).gather(np.array([1]))) == {"x0"}


def test_fingerprint_is_the_hash_of_the_data():
    expected = hashlib.sha256(b"|u1(5, 2, 3, 1)" + IMAGES.tobytes() + LABELS.tobytes()).hexdigest()[:16]
    assert Dataset(IMAGES, LABELS).fingerprint == expected
    other = IMAGES.copy()
    other[-1, -1, -1] += 1
    prints = {Dataset(*data).fingerprint for data in [(IMAGES,), (IMAGES, LABELS), (IMAGES, LABELS[::-1]), (other,)]}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("examples", "labels", "names", "message"),
    [
        (IMAGES.astype(np.float32), None, (), "float32 with 4 axes"),
        (np.zeros((3, 2)), None, (), "float64"),
        (IMAGES, LABELS[:4], (), r"int32 \[5\]"),
        (IMAGES, LABELS.astype(np.int64), (), "int64"),
        (IMAGES, LABELS - 1, (), "start at 0"),
        (IMAGES, LABELS, ("a", "b"), "label 2 has no name"),
    ],
)
def test_wrong_data_is_refused(examples, labels, names, message):
    with pytest.raises(UserError, match=message):
        Dataset(examples, labels, names)


def test_epoch_is_once_in_order_with_a_short_end():
    parts = list(epoch(Dataset(IMAGES, LABELS), 2))
    assert [len(part["x0"]) for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([part["x0"] for part in parts]), IMAGES)
    np.testing.assert_array_equal(np.concatenate([part["label"] for part in parts]), LABELS)


class Holey:
    """Items of which some are unreadable."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index in self.bad:
            raise UnreadableImage(f"number {index}")
        return np.full((2, 2, 1), index, np.uint8), index % 3


def test_an_unreadable_image_gives_way_to_the_next_with_its_label(warnings):
    dataset = StreamedDataset(Holey({3, 4, 19}), (2, 2, 1), 3)
    batch = dataset.gather(np.array([2, 3, 19]))
    np.testing.assert_array_equal(batch["x0"][:, 0, 0, 0], [2, 5, 0])
    np.testing.assert_array_equal(batch["label"], [2, 2, 0])
    assert "number 3" in warnings[0]


def test_nothing_but_unreadable_images_is_an_error(warnings):
    with pytest.raises(UserError, match="unreadable"):
        StreamedDataset(Holey(set(range(20))), (2, 2, 1)).gather(np.array([0]))


def test_sources_are_registered_and_cheap_to_import():
    assert set(SOURCES) == {"digits", "toy", "folder", "cifar10", "tfds"}
    code = (
        "import sys, unified_diffusion.data; sys.exit('tensorflow_datasets' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_refuses_an_unknown_split(source, tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture(1))
    options = {"folder": {"path": str(tmp_path)}}.get(source, {})
    with pytest.raises(UserError, match="unknown split 'trian': did you mean 'train'"):
        SOURCES[source]("trian", **options)
