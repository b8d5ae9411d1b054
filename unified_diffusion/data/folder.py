"""Images of the user's own, in a folder or an archive whose sub-folders are the classes."""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
from pathlib import Path

import numpy as np
import tqdm

from unified_diffusion.data import cache as store
from unified_diffusion.data import files, images
from unified_diffusion.data.dataset import Dataset, StreamedDataset
from unified_diffusion.data.layout import arrange
from unified_diffusion.data.memory import budget, check_fits
from unified_diffusion.data.splits import SPLITS, check_split
from unified_diffusion.errors import UserError

_FORMAT = 1  # the version of the cache: raise it when a change of decoding or layout changes the examples


def load(
    split: str = "train",
    *,
    path: str = "",
    image_size: int = 32,
    channels: int = 3,
    test_fraction: float = 0.1,
    in_memory: bool = True,
    cache: bool = True,
) -> Dataset | StreamedDataset:
    """Reads every image below `path`, centre-cropped and resized: uint8 [N, image_size, image_size, channels].

    Sub-folders are the classes, numbered in the order of their names; without sub-folders there are no labels. Top
    folders `train` and `test` (or `val`) are the splits. Examples are in the order of their names. Unreadable images
    are skipped, with one warning.

        flowers = load("train", path="~/flowers.zip", image_size=64)

    Args:
        split: "train" or "test" ("val" where the data have all three).
        path: a folder, .zip, .tar, .tar.gz, .tgz, .tar.xz, .txz or .tar.bz2; archives are read in place.
        image_size: the side of the square, in pixels.
        channels: 3 (RGB) or 1 (gray).
        test_fraction: the share of the images that is held out for "test", by the hash of each name, where no folders
            are the splits.
        in_memory: whether to decode everything now; False decodes during the training (folders and zip only).
        cache: whether to keep the decoded images in the user's cache folder, and to read them from there.

    Raises:
        UserError: the path does not exist or is no archive of these kinds, no image is readable, the split is empty, or
            the data do not fit into memory.
    """
    check_split(split, (*SPLITS, "val"))
    check_options(path, image_size, channels, test_fraction)
    options = Options(Path(path).expanduser(), image_size, channels, test_fraction)
    if not options.path.exists():
        raise UserError(f"no such file or folder: {path!r} (data path)")
    skipped = files.Skipped()
    source = open_source(options.path, skipped)
    if not in_memory:
        dataset = stream(source, split, options, skipped)
    else:
        dataset = load_all(source, split, options, skipped, cache)
    if len(dataset) == 0:
        raise UserError(f"{path!r} has no image for split {split!r}; test_fraction is {test_fraction}")
    return dataset


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that the decoded examples depend on, beside the files themselves."""

    path: Path
    image_size: int
    channels: int
    test_fraction: float

    @property
    def shape(self):
        """The shape (H, W, C) of one example."""
        return (self.image_size, self.image_size, self.channels)

    def decode(self, data):
        """Returns the image uint8 [H, W, C] of a file's bytes, or raises UnreadableImage."""
        return images.decode(data, self.image_size, self.channels)


def check_options(path, image_size, channels, test_fraction):
    """Raises UserError for a missing path, or an option out of its range."""
    if not path:
        raise UserError("the folder source needs a path: a folder, .zip or .tar.* of images")
    if image_size < 1:
        raise UserError(f"image_size is at least 1 pixel, not {image_size}")
    if channels not in (1, 3):
        raise UserError(f"channels is 3 (RGB) or 1 (gray), not {channels}")
    if not 0 <= test_fraction < 1:
        raise UserError(f"test_fraction is in [0, 1), not {test_fraction}")


def open_source(path, skipped):
    """Returns a `files.Folder` or a `files.Zip`, or None for a tar, which has no index to open."""
    if path.is_dir():
        return files.Folder(path, skipped)
    if path.name.lower().endswith(".zip"):
        return files.Zip(path, skipped)
    if files.tar_suffix(path):
        return None
    raise UserError(f"{path} is neither a folder nor an archive we read: .zip {' '.join(files.TAR_OPENERS)}")


def load_all(source, split, options, skipped, use_cache):
    """Returns the split in memory, from the cache, or else from the files; then all splits are decoded and cached."""
    key = cache_key(source, options)
    if use_cache:
        found = store.load(f"{key}-{split}")
        if found is not None:
            return found
    decoded = decode_all(source, options, skipped)
    skipped.warn(options.path)
    check_split(split, decoded)
    if use_cache:
        for name, dataset in decoded.items():
            store.save(f"{key}-{name}", dataset)
    return decoded[split]


def cache_key(source, options):
    """Returns the name of the cache entry, which changes with the path, the files and the options."""
    signature = source.signature() if source else files.file_signature(options.path)
    return "folder-" + files.digest(
        [str(_FORMAT), signature, repr(dataclasses.replace(options, path=options.path.resolve()))]
    )


def decode_all(source, options, skipped):
    """Decodes all readable images and returns {split: Dataset}."""
    if source is None:
        pairs, total = ((name, lambda data=data: data) for name, data in files.tar_members(options.path, skipped)), None
    else:
        pairs, total = ((name, functools.partial(source.read, name)) for name in source.names), len(source.names)
        check_fits(total, options.shape, f"{options.path}", "set in_memory=False or a smaller image_size")
    names, rows, pixels = [], {}, bytearray()
    limit = budget()
    bar = tqdm.tqdm(decode_each(pairs, options), total=total, unit=" images", desc=options.path.name, disable=None)
    for name, image in bar:
        names.append(name)
        if isinstance(image, images.UnreadableImage):
            skipped.add(name, image)
            continue
        rows[name] = len(pixels) // math.prod(options.shape)  # where a tar holds a name twice, the last file counts
        pixels += image.data
        if len(pixels) > limit:
            raise UserError(f"{options.path} takes more than half of free memory: take a smaller image_size")
    if not rows:
        raise UserError(f"no readable image in {options.path} ({len(skipped.reasons)} file(s) skipped)")
    examples = np.frombuffer(pixels, np.uint8).reshape(-1, *options.shape)
    return split_up(examples, rows, arrange(names, options.test_fraction), skipped)


def split_up(examples, rows, layout, skipped):
    """Returns {split: Dataset}, the examples of each split in the order of their names.

    Args:
        examples: uint8 [N, H, W, C], all decoded images.
        rows: the row of each readable name in `examples`.
        layout: the `Layout` of all names.
        skipped: gets the names that no split contains.
    """
    placed = {name for members in layout.members.values() for name in members}
    for name in rows.keys() - placed:
        skipped.add(name, "beside the class folders, so without a class")
    result = {}
    for split, members in layout.members.items():
        readable = [name for name in members if name in rows]
        labels = np.array([layout.labels[name] for name in readable], np.int32) if layout.class_names else None
        result[split] = Dataset(examples[[rows[name] for name in readable]], labels, layout.class_names)
    return result


def decode_each(pairs, options, chunk=32):
    """Yields (name, uint8 array or UnreadableImage) for each (name, read), in order; a few threads decode."""

    def work(some):
        return [(name, attempt(read, options)) for name, read in some]

    threads = min(8, os.cpu_count() or 1)
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for some in iter(lambda: list(itertools.islice(pairs, chunk)), []):
            waiting.append(pool.submit(work, some))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def attempt(read, options):
    """Returns the decoded image, or the UnreadableImage that says why it cannot be decoded."""
    try:
        return options.decode(read())
    except images.UnreadableImage as error:
        return error


def stream(source, split, options, skipped):
    """Returns a `StreamedDataset` over one split of a folder or a zip."""
    if source is None:
        raise UserError(
            f"{options.path}: a tar cannot be read at random; unpack it, make it a .zip, or set in_memory=True"
        )
    if not source.names:
        raise UserError(f"no image in {options.path}")
    layout = arrange(source.names, options.test_fraction)
    skipped.warn(options.path)
    check_split(split, layout.members)
    items = Items(source, layout.members[split], layout.labels, options)
    fingerprint = files.digest([split, source.contents(), repr(options.shape), repr(options.test_fraction)])
    return StreamedDataset(items, options.shape, len(layout.class_names), layout.class_names, fingerprint)


@dataclasses.dataclass(frozen=True)
class Items:
    """The `items` of a `StreamedDataset`: items[i] reads and decodes (uint8 image, label or None)."""

    source: files.Folder | files.Zip
    names: tuple[str, ...]
    labels: dict[str, int]
    options: Options

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        name = self.names[index]
        try:
            return self.options.decode(self.source.read(name)), self.labels.get(name)
        except images.UnreadableImage as error:
            raise images.UnreadableImage(f"{self.options.path}: {name!r} ({error})") from error
