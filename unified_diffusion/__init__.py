"""DDPM and NCSN as one model: the two differ only in how they destroy data, x_t = alpha(t) x_0 + sigma(t) eps."""

from typing import TYPE_CHECKING

from unified_diffusion import (
    analytic,
    codecs,
    conditions,
    guidance,
    inversion,
    likelihood,
    models,
    objectives,
    parameterizations,
    perturbations,
    samplers,
)
from unified_diffusion import inversion as latents
from unified_diffusion.denoiser import Denoiser, Prediction
from unified_diffusion.errors import UserError
from unified_diffusion.version import __version__

if TYPE_CHECKING:
    from unified_diffusion.runs.run import Run, open_run, train

__all__ = [
    "Denoiser",
    "Prediction",
    "Run",
    "UserError",
    "__version__",
    "analytic",
    "codecs",
    "conditions",
    "guidance",
    "inversion",
    "latents",
    "likelihood",
    "models",
    "objectives",
    "open_run",
    "parameterizations",
    "perturbations",
    "samplers",
    "train",
]


def __getattr__(name):
    """Imports the names of `runs` when they are first asked for, since `runs` also imports Orbax, TFDS and grain."""
    if name not in ("Run", "open_run", "train"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from unified_diffusion.runs import run

    return getattr(run, name)


def __dir__():
    return sorted({*globals(), *__all__})
