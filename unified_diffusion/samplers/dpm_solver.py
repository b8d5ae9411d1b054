"""DPM-Solver++: multistep exponential integrators in lambda = log(alpha / sigma)."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.samplers.base import Sampler, noise_like
from unified_diffusion.samplers.clipping import x0_and_eps
from unified_diffusion.samplers.exponential_integrator import orders, phi


class DPMSolverRow(NamedTuple):
    """A step from t to s: the weights of its terms, and its length relative to the two steps before.

    The weights `keep`, `gain`, `slope`, `bend` and `noise` multiply x_t, x0_hat, D1_0, D1_0 - D1_1 and z; `r0` and `r1`
    are the ratios of the two earlier h to this step's h.
    """

    s: Any
    t: Any
    keep: Any
    gain: Any
    slope: Any
    bend: Any
    noise: Any
    r0: Any
    r1: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolver(Sampler):
    """DPM-Solver++ integrates x's linear part exactly and extrapolates x0_hat from earlier steps.

    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - exp(-h)) D, with D made of this x0_hat and the ones before: Lu et al.
    2022b, DPM-Solver++(2M), algorithm 2. In SDE-DPM-Solver++(2M), exp(-2h) stands for exp(-h), x_t is shrunk by another
    exp(-h), and noise is added. Order 1 of the ODE is DDIM, order 1 of the SDE `Ancestral(variance="small")`. Order 3
    integrates the parabola through the last three x0_hat exactly. (The authors' code, and later code made after it,
    halves that parabola's bend, D2, which leaves a method of second order.) The first steps are of lower order, and the
    last step, to clean data, returns x0_hat.

    Args:
        num_steps: the number of steps; a step is one network evaluation.
        order: 1, 2 or 3.
        stochastic: solve the reverse SDE instead of the ODE.
        clip_x0: clip x0_hat to [-1, 1] in every step; for images.
        spacing: how the steps are spread over the levels; "log_snr" is the paper's.

    Raises:
        UserError: any other order.
    """

    remembers: ClassVar[bool] = True

    num_steps: int = 20
    order: int = 2
    stochastic: bool = False
    clip_x0: bool = True
    spacing: str = "log_snr"

    def __post_init__(self):
        if self.order not in (1, 2, 3):
            raise UserError(f"DPM-Solver++ order = {self.order}: take 1, 2 or 3")

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_steps, self.spacing)
        _, alpha, sigma, log_snr, *_ = perturbation.exact(times)
        h, order = np.diff(log_snr) / 2, orders(self.num_steps, self.order)
        r0, r1 = (np.where(order > k, np.append(np.ones(k), h)[: len(h)] / h, 1) for k in (1, 2))

        rate = 2 * h if self.stochastic else h
        keep = sigma[1:] / sigma[:-1] * (np.exp(-h) if self.stochastic else 1)
        gain = -alpha[1:] * np.expm1(-rate)
        noise = sigma[1:] * np.sqrt(-np.expm1(-2 * h)) if self.stochastic else np.zeros_like(h)

        # Order 3: x0_hat + D1 u + D2 u² at a part u of the step; D1 = D1_0 + r0 D2, D2 = (D1_0 - D1_1) / (r0 + r1).
        rate = np.where(order == 3, rate, 1)
        d1, d2 = alpha[1:] * rate * phi(2, -rate), 2 * alpha[1:] * rate * phi(3, -rate)
        slope = np.select([order == 2, order == 3], [gain / 2, d1], 0)
        bend = np.where(order == 3, (d1 * r0 + d2) / (r0 + r1), 0)
        return DPMSolverRow(times[1:], times[:-1], keep, gain, slope, bend, noise, r0, r1)

    def memory(self, x):
        """x0_hat of the last two steps."""
        return jnp.zeros_like(x), jnp.zeros_like(x)

    def advance(self, denoiser, x_t, memory, row, key):
        x0_1, x0_2 = memory
        x0, _ = x0_and_eps(denoiser, x_t, row.t, self.clip_x0)
        d1_0, d1_1 = (x0 - x0_1) / row.r0, (x0_1 - x0_2) / row.r1
        x_s = row.keep * x_t + row.gain * x0 + row.slope * d1_0 + row.bend * (d1_0 - d1_1)
        if self.stochastic:
            x_s += row.noise * noise_like(key, x_t)
        return x_s, (x0, x0_1)

    def num_evaluations(self, perturbation):
        return self.num_steps
