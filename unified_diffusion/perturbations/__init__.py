"""Forward processes: how data are destroyed. A new one is one file and one line here."""

from unified_diffusion.perturbations.base import Perturbation, expand
from unified_diffusion.perturbations.ddpm import DDPM
from unified_diffusion.perturbations.ncsn import NCSN

PERTURBATIONS = {"ddpm": DDPM, "ncsn": NCSN}

__all__ = ["DDPM", "NCSN", "PERTURBATIONS", "Perturbation", "expand"]
