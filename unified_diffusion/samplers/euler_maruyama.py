"""Euler–Maruyama: the reverse stochastic differential equation, in short steps of time."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like


class EulerMaruyamaRow(NamedTuple):
    """A step from t to s of width t - s."""

    s: Any
    t: Any
    width: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class EulerMaruyama(Sampler):
    """Euler–Maruyama steps of the reverse SDE, for the forward SDE dx = f dt + g dw.

    x_s = x_t - (f - g² score) (t - s) + g sqrt(t - s) z (Song et al. 2021, eq. 6). The last step, to s = 0, returns
    x0_hat. A chain is read as its continuous limit.

    Args:
        num_steps: the number of steps; None takes as many as the perturbation has levels. A step is one network
            evaluation.
        spacing: how the steps are spread over time.
    """

    continuous: ClassVar[bool] = True

    num_steps: int | None = 1000
    spacing: str = "uniform"

    def schedule(self, perturbation):
        times = np.asarray(perturbation.timesteps(self.num_evaluations(perturbation), self.spacing))
        return EulerMaruyamaRow(s=times[1:], t=times[:-1], width=times[:-1] - times[1:])

    def step(self, denoiser, x_t, row, key):
        process, prediction = denoiser.perturbation, denoiser(x_t, row.t)
        g, width = expand(process.diffusion(row.t), x_t), expand(row.width, x_t)
        drift = process.drift(x_t, row.t) - g**2 * prediction.score
        x_s = x_t - drift * width + g * jnp.sqrt(width) * noise_like(key, x_t)
        return jnp.where(expand(jnp.asarray(row.s) == 0, x_t), prediction.x0, x_s)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
