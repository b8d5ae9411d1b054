import io
import pickle

import numpy as np
import pytest
from PIL import Image

from unified_diffusion.data import SOURCES, batches
from unified_diffusion.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")


def load(split="train", **options):
    return SOURCES["tfds"](split, **options)


def png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "png")
    return out.getvalue()


class Blobs(tfds.core.GeneratorBasedBuilder):
    """Ten gray images, of one size in `even` and of several in `uneven`."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="even"), tfds.core.BuilderConfig(name="uneven")]

    def _info(self):
        size = 6 if self.builder_config.name == "even" else None
        features = {
            "image": tfds.features.Image(shape=(size, size, 1)),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
            "number": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(8)), "validation": self._generate_examples(range(8, 10))}

    def _generate_examples(self, numbers):
        for i in numbers:
            size = 6 if self.builder_config.name == "even" else 6 + i
            image = png(np.full((size, size), 10 * i, np.uint8))
            yield i, {"image": image, "label": i % 2, "number": i}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for config in ("even", "uneven"):
        Blobs(data_dir=folder, config=config, file_format="array_record").download_and_prepare()
    return str(folder)


def test_examples_labels_and_names(data_dir):
    dataset = load(dataset="blobs/even", data_dir=data_dir)
    assert (dataset.shape, dataset.class_names) == ((6, 6, 1), ("even", "odd"))
    np.testing.assert_array_equal(dataset.examples[:, 3, 3, 0], 10 * np.arange(8))
    np.testing.assert_array_equal(dataset.labels, np.arange(8) % 2)


def test_splits_have_tfds_names(data_dir):
    test = load("test", dataset="blobs/even", data_dir=data_dir, test_split="validation")
    assert test.examples[:, 0, 0, 0].tolist() == [80, 90]
    assert len(load(dataset="blobs/even", data_dir=data_dir, train_split="train[:50%]")) == 4
    assert load(dataset="blobs/even", data_dir=data_dir, label_key="").labels is None


def test_images_of_several_sizes_are_resized(data_dir):
    dataset = load(dataset="blobs/uneven", data_dir=data_dir, image_size=4)
    assert dataset.examples[:, 2, 2, 0].tolist() == [10 * i for i in range(8)]
    with pytest.raises(UserError, match="set image_size"):
        load(dataset="blobs/uneven", data_dir=data_dir)


def test_streamed_is_what_is_held(data_dir):
    held = load(dataset="blobs/even", data_dir=data_dir)
    streamed = load(dataset="blobs/even", data_dir=data_dir, in_memory=False)
    assert (streamed.shape, streamed.num_classes, len(streamed.fingerprint)) == ((6, 6, 1), 2, 16)
    for dataset in (streamed, pickle.loads(pickle.dumps(streamed))):
        ours, theirs = (batches(d, 3, seed=0) for d in (dataset, held))
        for _ in range(4):
            this, that = next(ours), next(theirs)
            np.testing.assert_array_equal(this["x0"], that["x0"])
            np.testing.assert_array_equal(this["label"], that["label"])


def test_the_second_time_nothing_is_decoded(data_dir, monkeypatch, cache_home):
    first = load(dataset="blobs/even", data_dir=data_dir)
    monkeypatch.setattr("unified_diffusion.data.tfds.decode_all", None)
    assert load(dataset="blobs/even", data_dir=data_dir).fingerprint == first.fingerprint
    assert len(list(cache_home.iterdir())) == 1
    with pytest.raises(TypeError):
        load(dataset="blobs/even", data_dir=data_dir, cache=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": ""}, "needs a dataset name"),
        ({"dataset": "mnist"}, "not prepared in .*`tfds build mnist"),
        ({"dataset": "nonesuch"}, "not prepared"),
        ({"train_split": "trian"}, "no split 'trian': did you mean 'train'"),
        ({"image_key": "imag"}, "no feature 'imag': did you mean 'image'"),
        ({"label_key": "lable"}, "no feature 'lable': did you mean 'label'"),
        ({"label_key": "number"}, "no class label"),
        ({"image_key": "number"}, "no image"),
    ],
)
def test_mistakes_are_named(options, message, data_dir):
    with pytest.raises(UserError, match=message) as caught:
        load(**{"dataset": "blobs/even", "data_dir": data_dir, **options})
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(tmp_path):
    Blobs(data_dir=tmp_path, config="even", file_format="array_record").download_and_prepare()
    info = next(tmp_path.rglob("dataset_info.json"))
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="prepared as tfrecord"):
        load(dataset="blobs/even", data_dir=str(tmp_path))
