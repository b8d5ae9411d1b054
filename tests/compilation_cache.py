"""The folder in which the tests keep compiled programs from one run to the next."""

import hashlib
import os
import platform
from pathlib import Path

LIMIT = 2 * 2**30


def folder():
    """`~/.cache/unified_diffusion/tests-…`, or the same below `$XDG_CACHE_HOME`.

    JAX's own key has its version, the compiler's options and the program, but not the processor. A home may be shared
    by machines with different ones, whose compiled programs do not run on each other, so each kind has its folder.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "unified_diffusion" / f"tests-{processor()}"


def processor():
    """A short name of the processor's kind and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    kinds = sorted({line for line in lines if line.startswith(("model name", "flags", "CPU part", "Features"))})
    told = "\n".join([platform.machine(), platform.processor(), *kinds])
    return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def bound(cache, limit=LIMIT):
    """Deletes the oldest programs of a folder that has outgrown `limit` bytes, until half of it is left.

    JAX's own `jax_compilation_cache_max_size` reads every file's size whenever it writes one, which takes longer than
    compiling most of the tests' programs.
    """
    if not cache.is_dir():
        return
    files = sorted((stat.st_mtime, stat.st_size, file) for file, stat in ((f, f.stat()) for f in cache.glob("*-cache")))
    size = sum(size for _, size, _ in files)
    if size <= limit:
        return
    for _, freed, file in files:
        file.unlink(missing_ok=True)
        size -= freed
        if size <= limit / 2:
            return
