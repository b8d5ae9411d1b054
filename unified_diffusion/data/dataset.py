"""The two kinds of datasets that a source returns: one is held in memory, the other is decoded on demand."""

import dataclasses
import functools
import hashlib
import logging
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer, Shaped

from unified_diffusion.data.images import UnreadableImage
from unified_diffusion.errors import UserError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset whose examples are held in memory.

        Dataset(np.zeros((100, 8, 8, 1), np.uint8), labels=np.arange(100, dtype=np.int32) % 10)

    Attributes:
        examples: uint8 [N, H, W, C] images, or float32 [N, D] points.
        labels: int32 [N] in [0, num_classes), or None.
        class_names: one name for each class, or empty.

    Raises:
        UserError: the dtype or the shape is another, or the labels do not match the examples or the class names.
    """

    examples: Shaped[np.ndarray, "count ..."]
    labels: Int[np.ndarray, " labels"] | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self):
        kind = (self.examples.dtype, self.examples.ndim)
        if kind not in ((np.dtype(np.uint8), 4), (np.dtype(np.float32), 2)):
            raise UserError(f"a dataset holds uint8 [N, H, W, C] or float32 [N, D], not {kind[0]} with {kind[1]} axes")
        if self.labels is not None:
            check_labels(self.labels, len(self.examples), self.class_names)

    def __len__(self):
        return len(self.examples)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, such as (H, W, C)."""
        return self.examples.shape[1:]

    @functools.cached_property
    def num_classes(self) -> int:
        """The number of classes, or 0 for a dataset without labels."""
        if self.labels is None:
            return 0
        return len(self.class_names) or int(self.labels.max(initial=-1)) + 1

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the examples and labels: equal data have equal ones on any machine."""
        digest = hashlib.sha256(f"{self.examples.dtype.str}{self.examples.shape}".encode())
        digest.update(np.ascontiguousarray(self.examples).data)
        if self.labels is not None:
            digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    def gather(self, indices: Integer[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Returns the batch {"x0": [B, ...], "label": int32 [B], if there are labels} in the order of the indices."""
        if self.labels is None:
            return {"x0": self.examples[indices]}
        return {"x0": self.examples[indices], "label": self.labels[indices]}


@runtime_checkable
class RandomAccess(Protocol):
    """A sequence of examples: items[i] is (uint8 [H, W, C], label or None) for i in range(len(items))."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, int | None]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
    """A dataset whose images are decoded when a batch needs them, for data that memory cannot hold.

    If an image is unreadable, a warning names it and the next readable image takes its place. Batches therefore keep
    their size and depend on nothing but the data.

    Attributes:
        items: items[i] is (uint8 [H, W, C], label or None), or raises UnreadableImage. Worker processes pickle `items`.
        shape: (H, W, C) of one example.
        num_classes: the number of classes, or 0 without labels.
        class_names: one name for each class, or empty.
        fingerprint: 16 hex digits of a hash of the files' names and sizes; their pixels are not read for it.
    """

    items: RandomAccess
    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    fingerprint: str = ""

    def __len__(self):
        return len(self.items)

    def gather(self, indices: Integer[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Returns the batch {"x0": uint8 [B, H, W, C], "label": int32 [B], if any} in the order of the indices."""
        images, labels = zip(*(self._read(int(index)) for index in indices), strict=True)
        if self.num_classes == 0:
            return {"x0": np.stack(images)}
        return {"x0": np.stack(images), "label": np.array(labels, np.int32)}

    def _read(self, index, attempts=16):
        for step in range(min(attempts, len(self))):
            try:
                return self.items[(index + step) % len(self)]
            except UnreadableImage as error:
                _log.warning("%s; the next image takes its place", error)
        raise UserError(f"{attempts} images in a row are unreadable, from number {index} on: is the data damaged?")


def check_labels(labels, count, class_names):
    """Refuses labels that are not int32 [count], or that point outside the classes."""
    if labels.dtype != np.int32 or labels.shape != (count,):
        raise UserError(f"labels are int32 [{count}], one an example, not {labels.dtype} {list(labels.shape)}")
    if count and labels.min() < 0:
        raise UserError(f"labels start at 0, not at {labels.min()}")
    if count and class_names and labels.max() >= len(class_names):
        raise UserError(f"label {labels.max()} has no name: there are {len(class_names)} class names")
