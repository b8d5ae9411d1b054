"""Euler–Maruyama: the reverse stochastic differential equation, in even steps."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class EulerMaruyama(Sampler):
    """x_s = x_t - (f - g² score) (t - s) + g sqrt(t - s) z of dx = (f - g² score) dt + g dw, run back in time.

    Song et al. 2021, eq. 6. The last step, to s = 0, gives x0_hat. A chain is read as its continuous limit.

    Args:
        num_steps: steps, one network evaluation each; None takes as many as the perturbation has levels.
        spacing: how they are spread over time.
    """

    continuous: ClassVar[bool] = True

    num_steps: int | None = 1000
    spacing: str = "uniform"

    def schedule(self, perturbation):
        times = np.asarray(perturbation.timesteps(self.num_evaluations(perturbation), self.spacing))
        return times[1:], times[:-1], times[:-1] - times[1:]

    def step(self, denoiser, x_t, s, t, width, key):
        process, prediction = denoiser.perturbation, denoiser(x_t, t)
        g, width = expand(process.diffusion(t), x_t), expand(width, x_t)
        drift = process.drift(x_t, t) - g**2 * prediction.score
        x_s = x_t - drift * width + g * jnp.sqrt(width) * noise_like(key, x_t)
        return jnp.where(expand(jnp.asarray(s) == 0, x_t), prediction.x0, x_s)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
