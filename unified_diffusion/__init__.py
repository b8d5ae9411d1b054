"""DDPM and NCSN as one model: the two differ only in how they destroy data, x_t = alpha(t) x_0 + sigma(t) eps."""

import importlib
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

_LAZY_MODULES = ("data", "evaluation", "training", "visualization")

if TYPE_CHECKING:
    from unified_diffusion import data, evaluation, training, visualization
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
    "data",
    "evaluation",
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
    "training",
    "visualization",
]


def __getattr__(name):
    """Imports what brings Orbax, TFDS, grain or matplotlib along when it is first asked for."""
    if name in _LAZY_MODULES:
        return importlib.import_module(f"unified_diffusion.{name}")
    if name in ("Run", "open_run", "train"):
        from unified_diffusion.runs import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
