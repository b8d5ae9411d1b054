"""Forward processes, which destroy data. A new process is one file and one line here."""

from unified_diffusion.perturbations.base import Level, Perturbation, Step, expand
from unified_diffusion.perturbations.chain import Chain
from unified_diffusion.perturbations.continuous import Continuous
from unified_diffusion.perturbations.cosine import Cosine
from unified_diffusion.perturbations.ddpm import DDPM
from unified_diffusion.perturbations.ncsn import NCSN
from unified_diffusion.perturbations.ve import VE
from unified_diffusion.perturbations.vp import VP, SubVP

PERTURBATIONS = {"ddpm": DDPM, "ncsn": NCSN, "vp": VP, "sub_vp": SubVP, "ve": VE, "cosine": Cosine}

__all__ = [
    "DDPM",
    "NCSN",
    "PERTURBATIONS",
    "VE",
    "VP",
    "Chain",
    "Continuous",
    "Cosine",
    "Level",
    "Perturbation",
    "Step",
    "SubVP",
    "expand",
]
