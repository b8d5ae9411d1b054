"""DDPM and NCSN as one model: they differ only in how they destroy data, x_t = alpha(t) x_0 + sigma(t) eps."""

from unified_diffusion import analytic, guidance, inversion, likelihood, models, objectives, perturbations, samplers
from unified_diffusion import inversion as latents
from unified_diffusion.denoiser import Denoiser, Prediction
from unified_diffusion.errors import UserError
from unified_diffusion.version import __version__

__all__ = [
    "Denoiser",
    "Prediction",
    "UserError",
    "__version__",
    "analytic",
    "guidance",
    "inversion",
    "latents",
    "likelihood",
    "models",
    "objectives",
    "perturbations",
    "samplers",
]
