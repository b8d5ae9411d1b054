"""Codecs of one's own, in one file outside the package; a config names them "own_codecs:Standardised"."""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.codecs import Images, Points


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardised(Points):
    """Points with mean 0 and standard deviation 1: x_0 = (x - mean) / std."""

    mean: tuple[float, ...] = (0.0, 0.0)
    std: float = 1.0

    @property
    def data_scale(self):
        return self.std

    def encode(self, x):
        return (jnp.asarray(x) - jnp.asarray(self.mean, jnp.float32)) / self.std

    def to_data(self, x0):
        return x0 * self.std + jnp.asarray(self.mean, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitImages(Images):
    """Images in [0, 1], whose likelihoods are densities since they are not the grey levels k / 127.5 - 1."""

    clip_range = (0.0, 1.0)
    discretized = False
    unit = "nats"
    data_scale = 255.0

    def encode(self, x):
        return (super().encode(x) + 1) / 2

    def to_data(self, x0):
        return super().to_data(2 * x0 - 1)

    def in_unit(self, nats, shape):
        return nats


class NoCodec:
    """This class is not derived from Codec."""
