"""Measuring a trained model."""

from unified_diffusion.evaluation.levels import loss_per_level

__all__ = ["loss_per_level"]
