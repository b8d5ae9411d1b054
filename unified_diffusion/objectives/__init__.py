"""Objectives: (denoiser, x0, key, label) -> (loss per example, metrics). A new one is one file and one line here."""

from unified_diffusion.objectives.base import Objective, WeightedLevels
from unified_diffusion.objectives.classification import Classification
from unified_diffusion.objectives.denoising import Denoising
from unified_diffusion.objectives.hybrid import Hybrid
from unified_diffusion.objectives.implicit import Implicit
from unified_diffusion.objectives.plain import as_objective
from unified_diffusion.objectives.single_level import SingleLevel
from unified_diffusion.objectives.sliced import Sliced
from unified_diffusion.objectives.time_samplers import TIME_SAMPLERS, TimeSampler, time_sampler
from unified_diffusion.objectives.variational import Variational
from unified_diffusion.objectives.weightings import WEIGHTINGS, weight, weighting

OBJECTIVES = {
    "denoising": Denoising,
    "variational": Variational,
    "hybrid": Hybrid,
    "implicit": Implicit,
    "sliced": Sliced,
    "single_level": SingleLevel,
    "classification": Classification,
}

__all__ = [
    "OBJECTIVES",
    "TIME_SAMPLERS",
    "WEIGHTINGS",
    "Classification",
    "Denoising",
    "Hybrid",
    "Implicit",
    "Objective",
    "SingleLevel",
    "Sliced",
    "Variational",
    "TimeSampler",
    "WeightedLevels",
    "as_objective",
    "time_sampler",
    "weight",
    "weighting",
]
