"""Pseudo numerical methods for diffusion models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.clipping import x0_and_eps


@dataclasses.dataclass(frozen=True, kw_only=True)
class PNDM(Sampler):
    """x_s = phi(x_t, e, t, s): DDIM's step, with e a linear multistep mean of the last four eps_hat.

    Liu et al. 2022, section 3 and algorithm 2 (F-PNDM): three pseudo Runge-Kutta steps, then pseudo linear multistep
    ones, of second order. The last, to clean data, gives x0_hat.

    Args:
        num_steps: steps; four network evaluations in each of the first three, one in the others and in the last.
        clip_x0: clip x0_hat to [-1, 1] in every evaluation, and eps_hat accordingly; for images.
        spacing: how the steps are spread over the levels. The paper's is "uniform", which goes wrong where the first
            steps lose almost all of the noise, as in a cosine schedule.
    """

    continuous = True  # the Runge-Kutta steps ask for eps half-way

    num_steps: int = 50
    clip_x0: bool = True
    spacing: str = "log_snr"

    def schedule(self, perturbation):
        """s, t, the time half-way, and which kind of step: 0 Runge-Kutta, 1 multistep, 2 the last."""
        times = perturbation.timesteps(self.num_steps, self.spacing)
        kind = (np.arange(self.num_steps) >= 3).astype(int)
        kind[-1] = 2
        return times[1:], times[:-1], (times[1:] + times[:-1]) / 2, kind

    def history(self, x):
        """eps_hat of the last three steps."""
        return tuple(jnp.zeros_like(x) for _ in range(3))

    def step(self, denoiser, state, s, t, middle, kind, key):
        x_t, (eps_1, eps_2, eps_3) = state
        process = denoiser.perturbation

        def eps_hat(x, t):
            return x0_and_eps(denoiser, x, t, self.clip_x0)[1]

        eps = eps_hat(x_t, t)

        def runge_kutta():
            e_1 = eps
            e_2 = eps_hat(transfer(process, x_t, e_1, t, middle), middle)
            e_3 = eps_hat(transfer(process, x_t, e_2, t, middle), middle)
            e_4 = eps_hat(transfer(process, x_t, e_3, t, s), s)
            return (e_1 + 2 * e_2 + 2 * e_3 + e_4) / 6

        def multistep():
            return (55 * eps - 59 * eps_1 + 37 * eps_2 - 9 * eps_3) / 24

        mean = jax.lax.switch(kind, (runge_kutta, multistep, lambda: eps))
        return transfer(process, x_t, mean, t, s), (eps, eps_1, eps_2)

    def num_evaluations(self, perturbation):
        return self.num_steps + 3 * min(3, self.num_steps - 1)


def transfer(process, x_t, eps, t, s):
    """phi: x_s of the line through x_t along eps, in x / alpha over sigma / alpha. Liu et al. 2022, section 3."""
    return process.alpha(s) * (x_t - process.sigma(t) * eps) / process.alpha(t) + process.sigma(s) * eps
