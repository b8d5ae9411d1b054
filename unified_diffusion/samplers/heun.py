"""EDM's stochastic sampler: Heun's method on the probability-flow ODE, with churn."""

import dataclasses

import jax
import numpy as np

from unified_diffusion.samplers.base import Sampler, noise_like
from unified_diffusion.samplers.churn import check_churn, churned
from unified_diffusion.samplers.clipping import x0_and_eps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Heun steps of d(x / alpha) / d(sigma / alpha) = eps, with churn; the last step, to clean data, is Euler's.

    Karras et al. 2022, algorithm 2. In x / alpha and sigma / alpha any process is the paper's, and sigmas in these
    settings are sigma / alpha. Noise that is churned in would rise above the last level in the first steps: there it
    stays at that level.

    Args:
        num_steps: steps; two network evaluations each, and one in the last.
        churn: S_churn, spread over the steps: 0 is deterministic; at each, sigma is raised by at most sqrt(2).
        churn_min, churn_max: S_tmin and S_tmax, the range of sigma with churn, in data units of [-1, 1]; None is no
            upper end.
        churn_noise: S_noise, the standard deviation of that noise; a little above 1 makes up for lost detail.
        clip_x0: clip x0_hat to [-1, 1] in every evaluation, and eps_hat accordingly; for images.
        spacing: how the steps are spread over the levels; "karras" is the paper's.

    Raises:
        UserError: a negative setting, or churn_max below churn_min.
    """

    continuous = True

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
        """s, t; t_hat, scale and noise of the churn; and the stride in sigma / alpha from t_hat to s, times alpha_s."""
        times, levels = perturbation.timesteps(self.num_steps, self.spacing), perturbation.levels
        t_hat, scale, noise = churned(levels, times[:-1], self.churn, self.churn_min, self.churn_max)
        (alpha, _, log_snr), (_, _, log_snr_hat) = levels.exact(times[1:]), levels.exact(t_hat)
        stride = alpha * (np.exp(-log_snr / 2) - np.exp(-log_snr_hat / 2))
        return times[1:], times[:-1], t_hat, scale, self.churn_noise * noise, stride

    def step(self, denoiser, x_t, s, t, t_hat, scale, noise, stride, key):
        process = denoiser.perturbation
        x_hat = scale * x_t + noise * noise_like(key, x_t) if self.churn else x_t
        x0, eps = x0_and_eps(denoiser, x_hat, t_hat, self.clip_x0)
        # x_hat / alpha_hat + (sigma_s / alpha_s - sigma_hat / alpha_hat) eps, times alpha_s
        x_s = process.alpha(s) * x0 + process.sigma(s) * eps

        def second_order(x_s):
            _, eps_s = x0_and_eps(denoiser, x_s, s, self.clip_x0)
            return x_s + stride * (eps_s - eps) / 2

        return jax.lax.cond(s > 0, second_order, lambda x_s: x_s, x_s)

    def num_evaluations(self, perturbation):
        return 2 * self.num_steps - 1
