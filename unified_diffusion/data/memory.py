"""The memory that is free, so that data which do not fit are refused before the machine swaps."""

import math
from pathlib import Path

from unified_diffusion.errors import UserError


def available():
    """Returns the bytes of memory that this process can still take, or None where they are not known.

    This is the smaller of Linux's own estimate and the limit of the container.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # there is no container, or its limit is "max"
        return free


def budget():
    """Returns the bytes that decoded images may take; infinity where the free memory is not known.

    The images may take half of the free memory, because they are copied once.
    """
    free = available()
    return math.inf if free is None else free // 2


def check_fits(count, shape, what, remedy):
    """Refuses images that do not fit into the budget of memory.

    Args:
        count: the number of uint8 images.
        shape: the shape of one image.
        what: the name of the data, for the error message.
        remedy: the advice at the end of the error message.

    Raises:
        UserError: the images take more than `budget()`.
    """
    limit, needed = budget(), count * math.prod(shape)
    if needed > limit:
        raise UserError(f"{what}: {count} images take {needed / 1e9:.1f} GB, more than half of free memory; {remedy}")
