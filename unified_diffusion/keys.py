"""Random keys by name."""

import zlib

import jax


def named_key(seed, name):
    """The random key of a seed for one purpose: keys of different names are independent.

    key = named_key(0, "training")
    """
    return fold_name(jax.random.key(seed), name)


def fold_name(key, name):
    """Derives from `key` a further key for the purpose that `name` names."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
