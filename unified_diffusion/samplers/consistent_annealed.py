"""Consistent annealed sampling: Langevin steps whose noise matches the next level."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like


class ConsistentAnnealedRow(NamedTuple):
    """A step from t to s, with the size eta of its drift and the share beta of its noise."""

    s: Any
    t: Any
    eta: Any
    beta: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConsistentAnnealed(Sampler):
    """Consistent annealed sampling takes one Langevin step a level, whose noise is just what the next level has.

    x_s = x_t + eta sigma_t² score + beta sigma_s z with beta² = 1 - ((1 - eta) / gamma)² and gamma = sigma_s / sigma_t
    (Jolicoeur-Martineau et al. 2021). With this beta the noise left in x_s has scale sigma_s, as the network expects;
    annealed Langevin dynamics leaves more. The last step, to s = 0, is their denoising step and returns x0_hat. On a
    process with alpha other than 1, the algorithm is applied to x / alpha, whose noise scales are sigma / alpha.

    On any levels 1 - eta = gamma^rate, so beta² = 1 - gamma^(2 rate - 2), and no step is too short for its level. On
    the paper's geometric levels eta is a constant, their epsilon / sigma_L²: rate = log(1 - eta) / log(gamma), which is
    1.56 for their CIFAR-10 setting, 0.056 on 232 levels.

    Args:
        num_steps: the number of steps; None takes every level. A step is one network evaluation.
        rate: 1 is deterministic; 2 has the variance of ancestral sampling with the small choice.
        spacing: how the steps are spread over the levels; "log_snr" is geometric on any perturbation.

    Raises:
        UserError: a rate below 1, for which beta² would be negative.
    """

    num_steps: int | None = None
    rate: float = 1.5
    spacing: str = "log_snr"

    def __post_init__(self):
        if not 1 <= self.rate < np.inf:
            raise UserError(f"rate = {self.rate}: beta² = 1 - gamma^(2 rate - 2) is negative below 1; take 1 to 2")

    def schedule(self, perturbation):
        """The rows; eta = 1 and beta = 0 in the last step."""
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        log_snr = perturbation.exact(times).log_snr
        log_gamma = (log_snr[:-1] - log_snr[1:]) / 2  # -inf to s = 0
        beta = np.append(np.sqrt(-np.expm1(2 * (self.rate - 1) * log_gamma[:-1])), 0)
        return ConsistentAnnealedRow(s=times[1:], t=times[:-1], eta=-np.expm1(self.rate * log_gamma), beta=beta)

    def step(self, denoiser, x_t, row, key):
        process = denoiser.perturbation
        rescale, size = process.alpha(row.s) / process.alpha(row.t), row.eta * process.sigma(row.t) ** 2
        drifted = x_t + expand(size, x_t) * denoiser(x_t, row.t).score
        return expand(rescale, x_t) * drifted + expand(row.beta * process.sigma(row.s), x_t) * noise_like(key, x_t)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
