"""Samplers: (denoiser, key, shape) -> samples. A new one is one file and one line here."""

from unified_diffusion.samplers.ancestral import Ancestral
from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.conditioned import Conditioned
from unified_diffusion.samplers.ddim import DDIM
from unified_diffusion.samplers.dpm_solver import DPMSolver
from unified_diffusion.samplers.euler import Euler
from unified_diffusion.samplers.generate import generate
from unified_diffusion.samplers.heun import Heun
from unified_diffusion.samplers.langevin import AnnealedLangevin
from unified_diffusion.samplers.pndm import PNDM
from unified_diffusion.samplers.unipc import UniPC

SAMPLERS = {
    "ancestral": Ancestral,
    "annealed_langevin": AnnealedLangevin,
    "ddim": DDIM,
    "dpm_solver": DPMSolver,
    "euler": Euler,
    "heun": Heun,
    "pndm": PNDM,
    "unipc": UniPC,
}

__all__ = [
    "SAMPLERS",
    "DDIM",
    "DPMSolver",
    "Euler",
    "Heun",
    "PNDM",
    "Ancestral",
    "AnnealedLangevin",
    "Conditioned",
    "Sampler",
    "UniPC",
    "generate",
]
