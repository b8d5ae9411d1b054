"""Samplers: (denoiser, key, shape) -> samples. A new one is one file and one line in `registry.py`."""

from unified_diffusion.samplers.analytic_dpm import AnalyticDPM
from unified_diffusion.samplers.ancestral import Ancestral
from unified_diffusion.samplers.base import Row, Sampler
from unified_diffusion.samplers.conditioned import Conditioned
from unified_diffusion.samplers.consistent_annealed import ConsistentAnnealed
from unified_diffusion.samplers.ddim import DDIM
from unified_diffusion.samplers.dpm_solver import DPMSolver
from unified_diffusion.samplers.euler import Euler
from unified_diffusion.samplers.euler_maruyama import EulerMaruyama
from unified_diffusion.samplers.generate import generate
from unified_diffusion.samplers.heun import Heun
from unified_diffusion.samplers.langevin import AnnealedLangevin
from unified_diffusion.samplers.pndm import PNDM
from unified_diffusion.samplers.predictor_corrector import PredictorCorrector
from unified_diffusion.samplers.probability_flow import ProbabilityFlow
from unified_diffusion.samplers.registry import BASIC
from unified_diffusion.samplers.reverse_diffusion import ReverseDiffusion
from unified_diffusion.samplers.unipc import UniPC

SAMPLERS = {**BASIC, "predictor_corrector": PredictorCorrector}

__all__ = [
    "SAMPLERS",
    "AnalyticDPM",
    "Ancestral",
    "AnnealedLangevin",
    "Conditioned",
    "ConsistentAnnealed",
    "DDIM",
    "DPMSolver",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "PNDM",
    "PredictorCorrector",
    "ProbabilityFlow",
    "ReverseDiffusion",
    "Row",
    "Sampler",
    "UniPC",
    "generate",
]
