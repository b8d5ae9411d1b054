"""The samplers by name. A new sampler is one file and one line here."""

from unified_diffusion.samplers.analytic_dpm import AnalyticDPM
from unified_diffusion.samplers.ancestral import Ancestral
from unified_diffusion.samplers.consistent_annealed import ConsistentAnnealed
from unified_diffusion.samplers.ddim import DDIM
from unified_diffusion.samplers.dpm_solver import DPMSolver
from unified_diffusion.samplers.euler import Euler
from unified_diffusion.samplers.euler_maruyama import EulerMaruyama
from unified_diffusion.samplers.heun import Heun
from unified_diffusion.samplers.langevin import AnnealedLangevin
from unified_diffusion.samplers.pndm import PNDM
from unified_diffusion.samplers.probability_flow import ProbabilityFlow
from unified_diffusion.samplers.reverse_diffusion import ReverseDiffusion
from unified_diffusion.samplers.unipc import UniPC

# The samplers that are not built around another one.
BASIC = {
    "ancestral": Ancestral,
    "analytic_dpm": AnalyticDPM,
    "annealed_langevin": AnnealedLangevin,
    "consistent_annealed": ConsistentAnnealed,
    "ddim": DDIM,
    "dpm_solver": DPMSolver,
    "euler": Euler,
    "euler_maruyama": EulerMaruyama,
    "heun": Heun,
    "pndm": PNDM,
    "probability_flow": ProbabilityFlow,
    "reverse_diffusion": ReverseDiffusion,
    "unipc": UniPC,
}
