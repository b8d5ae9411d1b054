"""How much memory there is, so that too much data is refused before the machine swaps."""

import math
from pathlib import Path

from unified_diffusion.errors import UserError


def available():
    """Bytes of memory free for us, by Linux's own estimate and the container's limit; None where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free


def budget():
    """Bytes that decoded images may take: half of what is free, since they are copied once; inf where nobody says."""
    free = available()
    return math.inf if free is None else free // 2


def check_fits(count, shape, what, remedy):
    """Refuses what memory cannot hold.

    Raises:
        UserError: `count` uint8 images of `shape` are more than that.
    """
    limit, needed = budget(), count * math.prod(shape)
    if needed > limit:
        raise UserError(f"{what}: {count} images take {needed / 1e9:.1f} GB, more than half of free memory; {remedy}")
