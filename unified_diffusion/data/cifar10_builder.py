"""CIFAR-10 as a TFDS builder that needs no TensorFlow: PNG bytes in array_record files.

This module is imported only where CIFAR-10 is prepared or read, because TFDS takes a second to load.
"""

import io
import tarfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from unified_diffusion.errors import UserError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32  # a label byte, then 32 x 32 pixels as three planes


class Cifar10Png(tfds.core.GeneratorBasedBuilder):
    """The builder of the 60,000 images, which keep the order of the archive. Krizhevsky 2009."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, archive=None, **options):
        self.archive = archive
        super().__init__(file_format="array_record", **options)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="CIFAR-10, 32 x 32 images in ten classes.",
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples([f"data_batch_{i}.bin" for i in range(1, 6)]),
            "test": self._generate_examples(["test_batch.bin"]),
        }

    def _generate_examples(self, names):
        for file_number, name in enumerate(names):
            for i, record in enumerate(records(self.archive, name)):
                png = io.BytesIO()
                Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(png, "png")
                yield 1_000_000 * file_number + i, {"image": png.getvalue(), "label": int(record[0])}


def records(archive, name):
    """Returns the records of one file in the archive, uint8 [N, 3073]: a label and 3 x 32 x 32 pixels each.

    Raises:
        UserError: the archive is damaged, or lacks the file.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = tar.extractfile(f"cifar-10-batches-bin/{name}")
            if member is None:
                raise ValueError("it is no file")
            data = member.read()
    except (tarfile.TarError, EOFError, OSError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{archive} is not the CIFAR-10 binary archive, or it is damaged: {name}: {error}") from error
    if not data or len(data) % RECORD:
        raise UserError(f"{archive} is damaged: {name} has {len(data)} bytes, not a multiple of {RECORD}")
    table = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    if table[:, 0].max() >= len(CLASS_NAMES):
        raise UserError(f"{archive} is damaged: {name} has label {table[:, 0].max()}")
    return table
