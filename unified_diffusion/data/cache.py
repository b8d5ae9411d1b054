"""A cache of decoded images in the user's cache folder, so that the second run starts in seconds."""

import logging
import os
import zipfile
from pathlib import Path

import numpy as np

from unified_diffusion.data.dataset import Dataset
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_atomically

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Returns the cache folder: `$XDG_CACHE_HOME/unified_diffusion`, or `~/.cache/unified_diffusion`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unified_diffusion"


def load(key: str) -> Dataset | None:
    """Returns the dataset stored under the key, or None where none is stored or the file's checksums do not match."""
    path = cache_dir() / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = file.get("labels")
            return Dataset(file["examples"], labels, tuple(file["class_names"].tolist()))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, UserError) as error:
        _log.warning("cache file %s is damaged and will be written again: %s", path, error)
        return None


def save(key: str, dataset: Dataset) -> None:
    """Writes the dataset under the key, completely or not at all.

    A disk that is full or read-only leads to a warning and not to an error, since the cache only saves time.
    """
    arrays = {"examples": dataset.examples, "class_names": np.array(dataset.class_names, np.str_)}
    if dataset.labels is not None:
        arrays["labels"] = dataset.labels
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        write_atomically(cache_dir() / f"{key}.npz", lambda file: np.savez(file, **arrays))
    except OSError as error:
        _log.warning("decoded images are not cached in %s: %s", cache_dir(), error)
