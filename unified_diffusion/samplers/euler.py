"""Euler's method on the probability-flow ODE."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

from unified_diffusion.samplers.base import Sampler, noise_like
from unified_diffusion.samplers.churn import check_churn, churned
from unified_diffusion.samplers.clipping import x0_and_eps


class EulerRow(NamedTuple):
    """A step from t to s. The churn first makes scale x_t + noise z, which is at level t_hat."""

    s: Any
    t: Any
    t_hat: Any
    scale: Any
    noise: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """Euler steps of d(x / alpha) / d(sigma / alpha) = eps, with churn: `Heun` without its second evaluation.

    This is Karras et al. 2022, algorithm 2, without lines 9 to 11. In x / alpha and sigma / alpha any process is the
    paper's. Without churn the sampler is DDIM.

    Args:
        num_steps: the number of steps; a step is one network evaluation.
        churn, churn_min, churn_max, churn_noise, clip_x0: as in `Heun`.
        spacing: how the steps are spread over the levels.

    Raises:
        UserError: as `Heun`.
    """

    continuous: ClassVar[bool] = True

    num_steps: int = 50
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
        return EulerRow(times[1:], times[:-1], t_hat, scale, self.churn_noise * noise)

    def step(self, denoiser, x_t, row, key):
        x_hat = row.scale * x_t + row.noise * noise_like(key, x_t) if self.churn else x_t
        x0, eps = x0_and_eps(denoiser, x_hat, row.t_hat, self.clip_x0)
        # x_hat / alpha_hat + (sigma_s / alpha_s - sigma_hat / alpha_hat) eps, times alpha_s
        return denoiser.perturbation.perturb(x0, row.s, eps)

    def num_evaluations(self, perturbation):
        return self.num_steps
