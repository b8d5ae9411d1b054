"""Where examples come from, and how they become batches.

`SOURCES` names every built-in source; each is `load(split="train", *, options) -> Dataset | StreamedDataset`, with
`split` "train" or "test". A new source is one new file and one line here.
"""

from unified_diffusion.data import cifar10, digits, folder, tfds, toy
from unified_diffusion.data.dataset import Dataset, StreamedDataset
from unified_diffusion.data.pipeline import batches, epoch
from unified_diffusion.data.scaling import dequantize, to_model, to_uint8

SOURCES = {
    "digits": digits.load,
    "toy": toy.load,
    "folder": folder.load,
    "cifar10": cifar10.load,
    "tfds": tfds.load,
}

__all__ = ["SOURCES", "Dataset", "StreamedDataset", "batches", "dequantize", "epoch", "to_model", "to_uint8"]
