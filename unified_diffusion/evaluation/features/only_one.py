"""Work that of several processes one does."""

import contextlib
import fcntl


@contextlib.contextmanager
def only_one(path):
    """Holds a file against other processes, which wait; without a folder to write to, holds nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
