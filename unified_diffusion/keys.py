"""Random keys by name."""

import zlib

import jax


def named_key(seed, name):
    """The key of a seed for one purpose: keys of different names are independent."""
    return fold_name(jax.random.key(seed), name)


def fold_name(key, name):
    """A further key of `key`, for one purpose."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
