"""Samplers: (denoiser, key, shape) -> samples. A new one is one file and one line here."""

from unified_diffusion.samplers.ancestral import Ancestral
from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.generate import generate
from unified_diffusion.samplers.langevin import AnnealedLangevin
from unified_diffusion.samplers.probability_flow import ProbabilityFlow

SAMPLERS = {"ancestral": Ancestral, "annealed_langevin": AnnealedLangevin, "probability_flow": ProbabilityFlow}

__all__ = ["SAMPLERS", "Ancestral", "AnnealedLangevin", "ProbabilityFlow", "Sampler", "generate"]
