"""Samplers: (denoiser, key, shape) -> samples. A new one is one file and one line here."""

from unified_diffusion.samplers.analytic_dpm import AnalyticDPM
from unified_diffusion.samplers.ancestral import Ancestral
from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.consistent import ConsistentAnnealed
from unified_diffusion.samplers.euler_maruyama import EulerMaruyama
from unified_diffusion.samplers.generate import generate
from unified_diffusion.samplers.langevin import AnnealedLangevin
from unified_diffusion.samplers.predictor_corrector import PredictorCorrector
from unified_diffusion.samplers.reverse_diffusion import ReverseDiffusion

SAMPLERS = {
    "ancestral": Ancestral,
    "analytic_dpm": AnalyticDPM,
    "annealed_langevin": AnnealedLangevin,
    "consistent_annealed": ConsistentAnnealed,
    "euler_maruyama": EulerMaruyama,
    "predictor_corrector": PredictorCorrector,
    "reverse_diffusion": ReverseDiffusion,
}

__all__ = [
    "SAMPLERS",
    "AnalyticDPM",
    "Ancestral",
    "AnnealedLangevin",
    "ConsistentAnnealed",
    "EulerMaruyama",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Sampler",
    "generate",
]
