"""Pseudo numerical methods for diffusion models."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.clipping import x0_and_eps


class PNDMRow(NamedTuple):
    """A step from t to s, with the time half-way and its kind: 0 Runge–Kutta, 1 multistep, 2 the last step."""

    s: Any
    t: Any
    middle: Any
    kind: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class PNDM(Sampler):
    """PNDM takes DDIM's step with e, a linear multistep mean of the last four eps_hat, in place of eps_hat.

    x_s = phi(x_t, e, t, s), Liu et al. 2022, section 3 and algorithm 2 (F-PNDM): three pseudo Runge–Kutta steps, then
    pseudo linear multistep ones, of second order. The last step, to clean data, returns x0_hat.

    Args:
        num_steps: the number of steps; each of the first three is four network evaluations, every other and the last
            step is one.
        clip_x0: clip x0_hat to [-1, 1] in every evaluation, and eps_hat accordingly; for images.
        spacing: how the steps are spread over the levels. The paper's is "uniform", which fails where the first steps
            remove almost all of the noise, as in a cosine schedule.
    """

    continuous: ClassVar[bool] = True  # the Runge–Kutta steps ask for eps half-way
    remembers: ClassVar[bool] = True

    num_steps: int = 50
    clip_x0: bool = True
    spacing: str = "log_snr"

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_steps, self.spacing)
        kind = (np.arange(self.num_steps) >= 3).astype(int)
        kind[-1] = 2
        return PNDMRow(s=times[1:], t=times[:-1], middle=(times[1:] + times[:-1]) / 2, kind=kind)

    def memory(self, x):
        """eps_hat of the last three steps."""
        return tuple(jnp.zeros_like(x) for _ in range(3))

    def advance(self, denoiser, x_t, memory, row, key):
        del key
        eps_1, eps_2, eps_3 = memory
        process, (s, t, middle, kind) = denoiser.perturbation, row

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

    def last_evaluations(self, perturbation):
        return 1


def transfer(process, x_t, eps, t, s):
    """phi, DDIM's step along a given eps: a line in x / alpha over sigma / alpha (Liu et al. 2022, section 3)."""
    x0 = (x_t - process.sigma(t) * eps) / process.alpha(t)
    return process.perturb(x0, s, eps)
