"""Reverse diffusion: the forward chain's own discretisation, run backwards."""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Row, Sampler, noise_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseDiffusion(Sampler):
    """Reverse diffusion takes the forward step's own drift and noise backwards, corrected by the score.

    x_s = (2 - c) x_t + v score + sqrt(v) z, for the forward step x_t = c x_s + sqrt(v) z (Song et al. 2021, eq. 46,
    with the drift (c - 1) x_s and the diffusion sqrt(v)). It holds on chains and in continuous time alike, and is the
    predictor of their algorithms 2 and 3. The last step, to s = 0, returns x0_hat.

    Args:
        num_steps: the number of steps; None takes every level. A step is one network evaluation.
        spacing: how the steps are spread over the levels.
    """

    num_steps: int | None = None
    spacing: str = "uniform"

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        return Row(s=times[1:], t=times[:-1])

    def step(self, denoiser, x_t, row, key):
        prediction = denoiser(x_t, row.t)
        scale, variance = (expand(number, x_t) for number in denoiser.perturbation.transition(row.s, row.t))
        x_s = (2 - scale) * x_t + variance * prediction.score + jnp.sqrt(variance) * noise_like(key, x_t)
        return jnp.where(expand(jnp.asarray(row.s) == 0, x_t), prediction.x0, x_s)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
