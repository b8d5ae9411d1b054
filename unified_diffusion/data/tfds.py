"""Image datasets that TFDS has prepared as array_record files, which are read without TensorFlow."""

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
        dataset: the name in TFDS: "name", "name/config" or "name:version".
        data_dir: the folder in which TFDS keeps prepared data.
        train_split: the name of the training split in TFDS, which may be a slice such as "train[:90%]".
        test_split: the name of the test split in TFDS, or a slice.
        image_key: the feature that is the image.
        label_key: the feature that is the label. There are no labels if it is empty, or if it is "label" and the
            dataset has no such feature.
        image_size: the side in pixels to which images are centre-cropped and resized; None leaves images as they are,
            if all have one size.
        in_memory: whether to decode everything now; False decodes during the training.
        cache: whether to keep the decoded images in the user's cache folder, and to read them from there.

    Raises:
        UserError: the dataset is not prepared, or in another format; the split or a feature does not exist; images
            differ in size and there is no `image_size`; an image is unreadable; the data do not fit into memory.

    Example:
        train = load("train", dataset="mnist", image_size=32)
    """
    check_split(split)
    builder = open_prepared(dataset, Path(data_dir).expanduser())
    streamed = stream(builder, train_split if split == "train" else test_split, image_key, label_key, image_size)
    return hold(streamed, builder, cache) if in_memory else streamed


def open_prepared(dataset, data_dir):
    """Returns the TFDS builder of a prepared dataset from its files, since the dataset's code may need TensorFlow."""
    import tensorflow_datasets as tfds  # imported here, since TFDS takes a second to load
    from tensorflow_datasets.core import read_only_builder

    if not dataset:
        raise UserError("the tfds source needs a dataset name, for example 'mnist'")
    try:
        return read_only_builder.builder_from_files(dataset, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"TFDS dataset {dataset!r} is not prepared in {data_dir}: run "
            f"`tfds build {dataset} --data_dir={data_dir} --file_format=array_record` (that needs TensorFlow)"
        ) from error


def stream(builder, split, image_key, label_key, image_size):
    """Returns a `StreamedDataset` over one split of a prepared dataset."""
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
    return StreamedDataset(items, shape, len(names), names, fingerprint)


def one_shape(shape, image_size, name):
    """Returns the shape (H, W, C) that every example has, with 1 or 3 channels."""
    channels = 1 if shape[-1] == 1 else 3
    if image_size is not None:
        return (image_size, image_size, channels)
    if None in shape[:2]:
        raise UserError(f"the images of {name} differ in size: set image_size")
    return (*shape[:2], channels)


def open_records(builder, split, image_key):
    """Returns the random-access source of TFDS for one split, which leaves images as bytes."""
    import tensorflow_datasets as tfds

    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:  # TFDS drops rows of parquet
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
    """The `items` of a `StreamedDataset`: items[i] reads and decodes (uint8 image, label or None)."""

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
    """Returns all of a `StreamedDataset` in memory, from the cache or decoded now and put into the cache.

    The cache is worth it, because TFDS reads only 3,000 records a second.
    """
    info = Path(builder.data_path) / "dataset_info.json"
    key = "tfds-" + digest([streamed.fingerprint, str(info.resolve()), file_signature(info)])
    dataset = store.load(key) if use_cache else None
    if dataset is None:
        dataset = decode_all(streamed, builder.info.full_name)
        if use_cache:
            store.save(key, dataset)
    return dataset


def decode_all(streamed, name):
    """Decodes all of a `StreamedDataset` and returns it as a `Dataset`."""
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
