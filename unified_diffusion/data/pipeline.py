"""Batches for training.

Batch k is a function of (data, seed, k) alone: the number of processes and workers, and restarts, do not change it.
"""

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

_ENDLESS = 2**48  # the number of batches, which no training reaches
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
    """Returns an iterator over shuffled batches without end: {"x0": [B, ...], "label": int32 [B], if there are labels}.

    Each epoch has its own order. A batch may reach from one epoch into the next, so every batch is full, also when
    `batch_size > len(dataset)`. The state of the iterator is {"next_index": number of batches taken}. It is restored
    exactly by `get_state` and `set_state`, or by `grain.checkpoint.CheckpointSave` and `CheckpointRestore`, also under
    another `num_workers` or `process_count`.

        iterator = batches(dataset, 128, seed=0, flip=True)
        x0 = next(iterator)["x0"]

    Args:
        dataset: the examples, in memory or streamed.
        batch_size: the size B of the global batch; process p of P gets its rows [p * B / P, (p + 1) * B / P).
        seed: the seed of the order and of the flips.
        flip: whether to mirror each image left to right with probability 1/2.
        process_index: the number of this process, `jax.process_index()`.
        process_count: the number of all processes, `jax.process_count()`.
        num_workers: the number of worker processes that decode a StreamedDataset; close the iterator to end them. Data
            in memory are always gathered in this process, because handing batches between processes is slower.

    Raises:
        UserError: the dataset is empty, the batch does not divide among the processes, or points are to be flipped.
    """
    check(dataset, batch_size, flip, process_index, process_count)
    size = batch_size // process_count
    fetch = Fetch(dataset, size, seed, flip)
    # A part is `size` consecutive positions; each process takes every process_count-th part.
    mine = grain.MapDataset.range(_ENDLESS).map(fetch)[process_index::process_count]
    if isinstance(dataset, Dataset):
        return iter(mine.to_iter_dataset(_IN_MEMORY))
    if num_workers == 0:
        return iter(mine.to_iter_dataset(_STREAMED))
    return WorkerIterator(mine, num_workers)


def epoch(dataset: Dataset | StreamedDataset, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches for evaluation, once through the data in their own order; the last batch may be smaller."""
    for start in range(0, len(dataset), batch_size):
        yield dataset.gather(np.arange(start, min(start + batch_size, len(dataset))))


@dataclasses.dataclass(frozen=True)
class Fetch:
    """The function from the number of a part to its batch of `size` examples.

    The order and the flips depend on the seed and on the position in the endless order alone.
    """

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
    """Returns the examples' indices [B] at positions [B] of the endless order.

    The endless order is epoch after epoch, and each epoch has its own permutation of the `count` examples.
    """
    epochs, offsets = np.divmod(positions, count)
    indices = np.empty_like(offsets)
    for number in np.unique(epochs):
        here = epochs == number
        indices[here] = permutation(seed, int(number), count)[offsets[here]]
    return indices


@functools.lru_cache(maxsize=4)
def permutation(seed, epoch, count):
    """Returns a uniform permutation [count], which sorts hashed keys.

    The `shuffle` of grain permutes one index at a time, 40,000 a second for 1,500 examples; a small model would wait.
    """
    return np.argsort(random_bits(seed_from("order", seed, epoch), np.arange(count)), kind="stable")


def mirror(images, chosen):
    """Mirrors the `chosen` images (booleans [B]) left to right, in place, and returns all images [B, H, W, C]."""
    images[chosen] = images[chosen, :, ::-1]
    return images


class WorkerIterator(grain.DatasetIterator):
    """An iterator over batches that worker processes make, with the order and the state of one without workers.

    The state of grain's own iterator holds one counter for each worker, which ties a checkpoint to their number.
    """

    def __init__(self, batches: grain.MapDataset, num_workers: int):
        super().__init__()
        self._batches = batches
        self._options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        self._next_index = 0
        self._inner: grain.DatasetIterator | None = None

    def __next__(self):
        batch = next(self._running())
        self._next_index += 1
        return batch

    def start_prefetch(self):
        """Starts the workers at the current batch, unless they run."""
        self._running()

    def _running(self) -> grain.DatasetIterator:
        """Returns the iterator over the workers' batches, and starts the workers first where none run."""
        if self._inner is None:
            if not flags.FLAGS.is_parsed():  # grain's workers read absl's flags, and a notebook has not parsed them
                flags.FLAGS.mark_as_parsed()
            rest = self._batches[self._next_index :].to_iter_dataset(_IN_WORKER)
            self._inner = iter(rest.mp_prefetch(self._options, worker_init_fn=end_with_parent))
        return self._inner

    def get_state(self):
        """Returns {"next_index": the number of batches taken}."""
        return {"next_index": self._next_index}

    def set_state(self, state):
        """Ends the workers and goes on after the number of batches that the state tells."""
        self.close()
        self._next_index = state["next_index"]

    def close(self):
        """Ends the worker processes; a call of `next` starts them again."""
        if self._inner is not None:
            self._inner.close()
            self._inner = None


def end_with_parent(worker_index, worker_count):
    """Ends the worker that runs this function when its parent process is gone.

    A parent that is killed cannot end its workers itself, so each worker looks for its parent once a second.
    """
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check(dataset, batch_size, flip, process_index, process_count):
    """Raises UserError where `batches` cannot make batches of the dataset with these arguments."""
    if len(dataset) == 0:
        raise UserError("the dataset is empty")
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"batch_size {batch_size} does not divide among {process_count} process(es): take a multiple")
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not in [0, {process_count})")
    if flip and len(dataset.shape) != 3:
        raise UserError("flip mirrors images; these are points: set flip=False")
