"""The older name of `unified_diffusion.inversion`, kept for one release."""

from unified_diffusion.inversion import decode, encode, interpolate, slerp

__all__ = ["decode", "encode", "interpolate", "slerp"]
