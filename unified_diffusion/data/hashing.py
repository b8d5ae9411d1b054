"""Random bits as a pure function of their purpose, so that they are equal on every machine and in every order."""

import hashlib

import numpy as np


def seed_from(*parts):
    """Returns a 64-bit integer that is the SHA-256 of any printable parts.

    Seeds of different parts are unrelated, for example `seed_from("flip", 0)` and `seed_from("flip", 1)`.
    """
    text = "/".join(str(part) for part in parts).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def random_bits(seed, positions):
    """Returns 64 random bits for each position, by SplitMix64's finaliser on a counter. Steele, Lea & Flood 2014.

    Args:
        seed: an integer in [0, 2^64), as `seed_from` gives.
        positions: integers [N]; the bits of a position depend on nothing but the position and the seed.

    Returns:
        uint64 [N].
    """
    z = np.array([seed], np.uint64) + np.asarray(positions).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def unit_interval(name, salt):
    """Returns a number in [0, 1) that depends on the name and on `salt` alone."""
    return seed_from(salt, name) / 2**64
