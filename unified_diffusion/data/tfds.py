"""Any image dataset that TFDS has prepared as array_record files, read without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from unified_diffusion.data import cache as store
from unified_diffusion.data.dataset import Dataset, StreamedDataset
from unified_diffusion.data.files import digest, file_signature
from unified_diffusion.data.images import UnreadableImage, decode
from unified_diffusion.data.memory import check_fits
from unified_diffusion.data.splits import check_split
from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest


def load(
    split: str = "train",
    *,
    dataset: str = "",
    data_dir: str = "~/tensorflow_datasets",
    train_split: str = "train",
    test_split: str = "test",
    image_key: str = "image",
    label_key: str = "label",
    image_size: int | None = None,
    in_memory: bool = True,
    cache: bool = True,
) -> Dataset | StreamedDataset:
    """Reads a prepared TFDS dataset: uint8 [N, H, W, C], with labels where `label_key` is a TFDS class label.

    Args:
        split: "train" or "test".
        dataset: TFDS's name: "name", "name/config" or "name:version".
        data_dir: where TFDS keeps prepared data.
        train_split: what TFDS calls the training split; slices such as "train[:90%]" are welcome.
        test_split: the same for the test split.
        image_key: the feature that is the image.
        label_key: the feature that is the label; empty, or "label" where there is none, means no labels.
        image_size: centre-crop and resize to this side; None leaves images as they are, if all have one size.
        in_memory: decode everything now; False decodes as training goes.
        cache: keep the decoded images in the user's cache folder, and take them from there.

    Raises:
        UserError: a dataset that is not prepared or in another format; no such split or feature; images of several
            sizes without `image_size`; an unreadable image; more data than memory.
    """
    check_split(split)
    builder = open_prepared(dataset, Path(data_dir).expanduser())
    streamed = stream(builder, train_split if split == "train" else test_split, image_key, label_key, image_size)
    return hold(streamed, builder, cache) if in_memory else streamed


def open_prepared(dataset, data_dir):
    """The TFDS builder of a prepared dataset, from its files alone: the dataset's own code may need TensorFlow."""
    import tensorflow_datasets as tfds  # imported here: it takes a second

    if not dataset:
        raise UserError("the tfds source needs a dataset name, for example 'mnist'")
    try:
        return tfds.core.read_only_builder.builder_from_files(dataset, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"TFDS dataset {dataset!r} is not prepared in {data_dir}: run "
            f"`tfds build {dataset} --data_dir={data_dir} --file_format=array_record` (that needs TensorFlow)"
        ) from error


def stream(builder, split, image_key, label_key, image_size):
    """A StreamedDataset over one split."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    if image_key not in features:
        raise UserError(f"{builder.info.full_name} has no feature {image_key!r}: {suggest(image_key, features)}")
    image = features[image_key]
    if not isinstance(image, tfds.features.Image):
        raise UserError(f"feature {image_key!r} of {builder.info.full_name} is no image but {type(image).__name__}")
    if label_key not in features and label_key not in ("", "label"):
        raise UserError(f"{builder.info.full_name} has no feature {label_key!r}: {suggest(label_key, features)}")
    label = features.get(label_key)
    if label is not None and not isinstance(label, tfds.features.ClassLabel):
        raise UserError(f"feature {label_key!r} of {builder.info.full_name} is no class label; set label_key to ''")
    shape = one_shape(image.shape, image_size, builder.info.full_name)
    items = Items(open_records(builder, split, image_key), shape, image_key, label_key if label else "", image_size)
    fingerprint = digest([builder.info.full_name, split, str(len(items)), str(shape), image_key, label_key])
    names = tuple(label.names) if label is not None else ()
    return StreamedDataset(items, shape, label.num_classes if label is not None else 0, names, fingerprint)


def one_shape(shape, image_size, name):
    """(H, W, C) of every example: 1 or 3 channels, of one size."""
    channels = 1 if shape[-1] == 1 else 3
    if image_size is not None:
        return (image_size, image_size, channels)
    if None in shape[:2]:
        raise UserError(f"the images of {name} differ in size: set image_size")
    return (*shape[:2], channels)


def open_records(builder, split, image_key):
    """TFDS's random-access source for one split, images left as bytes."""
    import tensorflow_datasets as tfds

    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:  # parquet, which also reads, drops rows silently
        raise UserError(
            f"{builder.info.full_name} is prepared as {builder.info.file_format.value}, which has no random access: "
            "prepare it with file_format='array_record'"
        )
    try:
        return builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{builder.info.full_name} has no split {split!r}: {suggest(split, builder.info.splits)}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Items:
    """items[i] is (uint8 image, label or None), read and decoded now."""

    records: Any
    shape: tuple[int, ...]
    image_key: str
    label_key: str
    image_size: int | None

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        image = decode(record[self.image_key], self.image_size, self.shape[-1])
        if image.shape != self.shape:
            raise UnreadableImage(f"record {index} has shape {image.shape}, not {self.shape}")
        return image, int(record[self.label_key]) if self.label_key else None


def hold(streamed, builder, use_cache):
    """All of a StreamedDataset in memory, from the cache or decoded once: TFDS itself reads 3,000 records a second."""
    info = Path(builder.data_path) / "dataset_info.json"
    key = "tfds-" + digest([streamed.fingerprint, str(info.resolve()), file_signature(info)])
    dataset = store.load(key) if use_cache else None
    if dataset is None:
        dataset = decode_all(streamed, builder.info.full_name)
        if use_cache:
            store.save(key, dataset)
    return dataset


def decode_all(streamed, name):
    """All of a StreamedDataset, decoded now."""
    check_fits(len(streamed), streamed.shape, name, "set in_memory=False, or a smaller image_size")
    examples = np.empty((len(streamed), *streamed.shape), np.uint8)
    labels = np.full(len(streamed), -1, np.int32)
    for i in tqdm.trange(len(streamed), unit=" images", desc=name, disable=None):
        try:
            examples[i], label = streamed.items[i]
        except UnreadableImage as error:
            raise UserError(f"{name}: record {i} is unreadable ({error}); prepare the dataset again") from error
        if label is not None:
            labels[i] = label
    return Dataset(examples, labels if streamed.num_classes else None, streamed.class_names)
