"""Random keys by name."""

import zlib

import jax


def named_key(seed, name):
    """The key of a seed for one purpose: keys of different names are independent."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
