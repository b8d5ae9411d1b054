"""EDM's stochastic sampler: Heun's method on the probability-flow ODE, with churn."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax

from unified_diffusion.samplers.base import Sampler, noise_like
from unified_diffusion.samplers.churn import check_churn, churned
from unified_diffusion.samplers.clipping import x0_and_eps


class HeunRow(NamedTuple):
    """A step from t to s. The churn first makes scale x_t + noise z, which is at level t_hat.

    `stride` is the step's length in sigma / alpha, from t_hat to s, times alpha_s.
    """

    s: Any
    t: Any
    t_hat: Any
    scale: Any
    noise: Any
    stride: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Heun steps of d(x / alpha) / d(sigma / alpha) = eps, with churn; the last step, to clean data, is Euler's.

    This is Karras et al. 2022, algorithm 2. In x / alpha and sigma / alpha any process is the paper's, and the sigmas
    of these settings are sigma / alpha. Churn never raises the noise above the last level.

    Args:
        num_steps: the number of steps; a step is two network evaluations, and the last step is one.
        churn: S_churn, spread over the steps. 0 is deterministic; each step raises sigma by a factor of sqrt(2) at
            most.
        churn_min, churn_max: S_tmin and S_tmax, the range of sigma with churn, in data units of [-1, 1]; churn_max None
            is no limit.
        churn_noise: S_noise, the standard deviation of that noise; a value a little above 1 makes up for lost detail.
        clip_x0: clip x0_hat to [-1, 1] in every evaluation, and eps_hat accordingly; for images.
        spacing: how the steps are spread over the levels; "karras" is the paper's.

    Raises:
        UserError: a negative setting, or churn_max below churn_min.
    """

    continuous: ClassVar[bool] = True

    num_steps: int = 18
    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float | None = None
    churn_noise: float = 1.0
    clip_x0: bool = True
    spacing: str = "karras"

    def __post_init__(self):
        check_churn(self.churn, self.churn_min, self.churn_max, self.churn_noise)

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_steps, self.spacing)
        t_hat, scale, noise = churned(perturbation, times[:-1], self.churn, self.churn_min, self.churn_max)
        level = perturbation.exact(times[1:])
        stride = level.alpha * (level.noise_to_signal - perturbation.exact(t_hat).noise_to_signal)
        return HeunRow(times[1:], times[:-1], t_hat, scale, self.churn_noise * noise, stride)

    def step(self, denoiser, x_t, row, key):
        x_hat = row.scale * x_t + row.noise * noise_like(key, x_t) if self.churn else x_t
        x0, eps = x0_and_eps(denoiser, x_hat, row.t_hat, self.clip_x0)
        # x_hat / alpha_hat + (sigma_s / alpha_s - sigma_hat / alpha_hat) eps, times alpha_s
        x_s = denoiser.perturbation.perturb(x0, row.s, eps)

        def second_order(x_s):
            _, eps_s = x0_and_eps(denoiser, x_s, row.s, self.clip_x0)
            return x_s + row.stride * (eps_s - eps) / 2

        return jax.lax.cond(row.s > 0, second_order, lambda x_s: x_s, x_s)

    def num_evaluations(self, perturbation):
        return 2 * self.num_steps - 1

    def last_evaluations(self, perturbation):
        return 1
