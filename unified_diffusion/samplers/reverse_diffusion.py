"""Reverse diffusion: the forward chain's own discretisation, run backwards."""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseDiffusion(Sampler):
    """x_s = (2 - c) x_t + v score + sqrt(v) z, for the forward step x_t = c x_s + sqrt(v) z.

    Song et al. 2021, eq. 46, with the drift (c - 1) x_s and the diffusion sqrt(v) of the forward step, on chains and in
    continuous time alike; as the predictor of their algorithms 2 and 3. The last step, to s = 0, gives x0_hat.

    Args:
        num_steps: steps, one network evaluation each; None takes every level.
        spacing: how they are spread over the levels.
    """

    num_steps: int | None = None
    spacing: str = "uniform"

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        return times[1:], times[:-1]

    def step(self, denoiser, x_t, s, t, key):
        prediction = denoiser(x_t, t)
        scale, variance = (expand(number, x_t) for number in denoiser.perturbation.transition(s, t))
        x_s = (2 - scale) * x_t + variance * prediction.score + jnp.sqrt(variance) * noise_like(key, x_t)
        return jnp.where(expand(jnp.asarray(s) == 0, x_t), prediction.x0, x_s)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
