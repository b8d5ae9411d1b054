"""Objectives: (denoiser, x0, key, label) -> (loss per example, metrics). A new one is one file and one line here."""

from unified_diffusion.objectives.denoising import Denoising
from unified_diffusion.objectives.time_samplers import TIME_SAMPLERS
from unified_diffusion.objectives.weightings import WEIGHTINGS, weight, weighting

OBJECTIVES = {"denoising": Denoising}

__all__ = ["OBJECTIVES", "TIME_SAMPLERS", "WEIGHTINGS", "Denoising", "weight", "weighting"]
