"""Batches for training: batch k is a function of (data, seed, k) alone, whatever the processes, workers or restarts."""

import dataclasses
import functools
import os
import threading
import time
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags

from unified_diffusion.data.dataset import Dataset, StreamedDataset
from unified_diffusion.data.hashing import random_bits, seed_from
from unified_diffusion.errors import UserError

_ENDLESS = 2**48  # batches
# Gathering from memory is faster than handing over between threads; decoding gains from running ahead.
_IN_MEMORY = grain.ReadOptions(num_threads=0)
_STREAMED = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
_IN_WORKER = grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)


def batches(
    dataset: Dataset | StreamedDataset,
    batch_size: int,
    *,
    seed: int,
    flip: bool = False,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
) -> grain.DatasetIterator:
    """Shuffled batches without end: {"x0": [B, ...], "label": int32 [B] if labelled}.

    Epochs are shuffled anew and run on across batches, so every batch is full, also when `batch_size > len(dataset)`.
    The state is {"next_index": number of batches taken}: it restores exactly, with `get_state` and `set_state` or with
    `grain.checkpoint.CheckpointSave` and `CheckpointRestore`, and also under another `num_workers` or `process_count`.

    Args:
        dataset: in memory or streamed.
        batch_size: of the global batch; process p of P gets its rows [p * B / P, (p + 1) * B / P).
        seed: of the order and of the flips.
        flip: mirror each image left to right with probability 1/2.
        process_index: this process, `jax.process_index()`.
        process_count: all processes, `jax.process_count()`.
        num_workers: worker processes that decode a StreamedDataset (close the iterator to end them). Data in memory is
            gathered here whatever the number: handing batches between processes is the slower way.

    Raises:
        UserError: an empty dataset, a batch that does not divide among the processes, or a flip of points.
    """
    check(dataset, batch_size, flip, process_index, process_count)
    size = batch_size // process_count
    fetch = Fetch(dataset, size, seed, flip)
    # Parts of `size` consecutive positions, of which each process takes every process_count-th.
    mine = grain.MapDataset.range(_ENDLESS).map(fetch)[process_index::process_count]
    if isinstance(dataset, Dataset):
        return iter(mine.to_iter_dataset(_IN_MEMORY))
    if num_workers == 0:
        return iter(mine.to_iter_dataset(_STREAMED))
    return WorkerIterator(mine, num_workers)


def epoch(dataset: Dataset | StreamedDataset, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Once through the data in its own order, for evaluation; the last batch may be smaller."""
    for start in range(0, len(dataset), batch_size):
        yield dataset.gather(np.arange(start, min(start + batch_size, len(dataset))))


@dataclasses.dataclass(frozen=True)
class Fetch:
    """The number of a part to the part itself; order and flips depend on the seed and the global position alone."""

    dataset: Dataset | StreamedDataset
    size: int
    seed: int
    flip: bool

    def __call__(self, number):
        positions = number * self.size + np.arange(self.size)
        batch = self.dataset.gather(shuffled(self.seed, len(self.dataset), positions))
        if self.flip:
            coins = random_bits(seed_from("flip", self.seed), positions) >> np.uint64(63)
            batch["x0"] = mirror(batch["x0"], coins == 1)
        return batch


def shuffled(seed, count, positions):
    """The examples [B] at positions [B] of the endless order: epoch after epoch, each with its own permutation."""
    epochs, offsets = np.divmod(positions, count)
    indices = np.empty_like(offsets)
    for number in np.unique(epochs):
        here = epochs == number
        indices[here] = permutation(seed, int(number), count)[offsets[here]]
    return indices


@functools.lru_cache(maxsize=4)
def permutation(seed, epoch, count):
    """A uniform permutation [count], by sorting hashed keys.

    grain's `shuffle` permutes index by index: 40,000 a second for 1,500 examples, which small models would wait for.
    """
    return np.argsort(random_bits(seed_from("order", seed, epoch), np.arange(count)), kind="stable")


def mirror(images, chosen):
    """The images [B, H, W, C] with the chosen ones [B] mirrored left to right, in place."""
    images[chosen] = images[chosen, :, ::-1]
    return images


class WorkerIterator(grain.DatasetIterator):
    """Batches made in worker processes, with the same order and the same state as without them.

    grain's own state for workers holds one counter a worker, which ties a checkpoint to their number.
    """

    def __init__(self, batches: grain.MapDataset, num_workers: int):
        super().__init__()
        self._batches = batches
        self._options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        self._next_index = 0
        self._inner = None

    def __next__(self):
        self.start_prefetch()
        batch = next(self._inner)
        self._next_index += 1
        return batch

    def start_prefetch(self):
        """Starts the workers at the current batch, unless they run."""
        if self._inner is None:
            if not flags.FLAGS.is_parsed():  # grain's workers read its flags; in a notebook nobody parsed any
                flags.FLAGS.mark_as_parsed()
            rest = self._batches[self._next_index :].to_iter_dataset(_IN_WORKER)
            self._inner = iter(rest.mp_prefetch(self._options, worker_init_fn=end_with_parent))

    def get_state(self):
        return {"next_index": self._next_index}

    def set_state(self, state):
        self.close()
        self._next_index = state["next_index"]

    def close(self):
        """Ends the worker processes; the next batch would start them again."""
        if self._inner is not None:
            self._inner.close()
            self._inner = None


def end_with_parent(worker_index, worker_count):
    """Runs in each worker: ends it when the process that started it is gone, which a killed one could not tell it."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check(dataset, batch_size, flip, process_index, process_count):
    """Refuses what cannot be batched."""
    if len(dataset) == 0:
        raise UserError("the dataset is empty")
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"batch_size {batch_size} does not divide among {process_count} process(es): take a multiple")
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not in [0, {process_count})")
    if flip and len(dataset.shape) != 3:
        raise UserError("flip mirrors images; these are points: set flip=False")
