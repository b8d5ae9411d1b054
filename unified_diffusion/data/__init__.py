"""Data sources, which read examples, and the pipeline that makes batches of them.

`SOURCES` names every built-in source. A source is a function `load(split="train", *, options)` that returns a `Dataset`
or a `StreamedDataset`, where `split` is "train" or "test". A new source is one new file and one line here.

    dataset = SOURCES["digits"]("train")
    batch = next(batches(dataset, 128, seed=0))
    x0 = to_model(batch["x0"])
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
