"""Files that are written whole or not at all, and locks between processes."""

import contextlib
import fcntl
import json
import os
import secrets
from pathlib import Path

SUFFIX = ".partial"


def write_atomically(path, write):
    """Writes a file whole or not at all: the contents go into a file beside it, which then takes its place.

    Several processes may write the same path at once; the last one wins. A process that is killed while it writes may
    leave a file whose name ends in ".partial", and leaves the old file as it was.

    Args:
        path: the file.
        write: a function of an open binary file, which writes the contents.

    Raises:
        OSError: a full or read-only disk. This error, and any that `write` raises, leaves no file behind.

    Example:
        write_atomically("samples.npz", lambda file: np.savez(file, arr_0=samples))
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        with partial.open("xb") as file:
            write(file)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def file_lock(path):
    """Runs the block in one process at a time; the other processes wait.

        with file_lock(folder / "lock"):
            ...

    Args:
        path: the file that is locked. Where this file cannot be written, nothing is locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def write_text(path, text):
    """Writes text as UTF-8, whole or not at all; line ends stay as they are."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path, value):
    """Writes a value as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")
