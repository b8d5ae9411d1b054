"""Annealed Langevin dynamics."""

import dataclasses

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(Sampler):
    """x += a score + sqrt(2 a) z with a = step_size sigma_t², from the noisiest level to the cleanest.

    Song & Ermon 2019, algorithm 1, as its authors ran it (with the printed a/2 and sqrt(a), a is twice as large); the
    last step is Tweedie's x + sigma² score without noise, Song & Ermon 2020, algorithm 1. Between levels x is rescaled
    by alpha_s / alpha_t: 1 on NCSN's ladder, and on any other it is annealed Langevin dynamics of x / alpha.

    Args:
        steps_per_level: Langevin steps at each level, one network evaluation each.
        step_size: a / sigma_t²; stable below 2.
        denoise: end with the denoising step, one evaluation more.
        num_levels: noise levels to stay at, spread over the perturbation's; None takes every one.
        spacing: how they are spread; "log_snr" is NCSN's geometric ladder, on any perturbation.

    Raises:
        UserError: no steps, or a step size outside (0, 2).
    """

    steps_per_level: int = 100
    step_size: float = 0.2
    denoise: bool = True
    num_levels: int | None = None
    spacing: str = "log_snr"

    def __post_init__(self):
        if self.steps_per_level < 1:
            raise UserError(f"steps_per_level = {self.steps_per_level}: take at least 1")
        if not 0 < self.step_size < 2:
            raise UserError(f"step_size = {self.step_size}: Langevin dynamics is stable between 0 and 2, both excluded")

    def schedule(self, perturbation):
        """s, t, and the step's size and noise in units of sigma_t; s = t but in the last step at a level."""
        t = np.repeat(self._levels(perturbation), self.steps_per_level)
        size = np.full(len(t), self.step_size, np.float32)
        noise = np.sqrt(2 * size)
        if self.denoise:
            t, size, noise = np.append(t, t[-1:]), np.append(size, np.float32(1)), np.append(noise, np.float32(0))
        return np.append(t[1:], np.zeros_like(t[:1])), t, size, noise

    def step(self, denoiser, x_t, s, t, size, noise, key):
        process = denoiser.perturbation
        sigma, rescale = process.sigma(t), process.alpha(s) / process.alpha(t)
        drift = expand(size * sigma**2, x_t) * denoiser(x_t, t).score
        return expand(rescale, x_t) * (x_t + drift + expand(noise * sigma, x_t) * noise_like(key, x_t))

    def num_evaluations(self, perturbation):
        return len(self._levels(perturbation)) * self.steps_per_level + self.denoise

    def _levels(self, perturbation):
        """The levels it stays at, falling."""
        if self.num_levels is None:
            return perturbation.times[::-1]
        return perturbation.timesteps(self.num_levels, self.spacing)[:-1]
