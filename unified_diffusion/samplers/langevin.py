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

    Raises:
        UserError: no steps, or a step size outside (0, 2).
    """

    steps_per_level: int = 100
    step_size: float = 0.2
    denoise: bool = True

    def __post_init__(self):
        if self.steps_per_level < 1:
            raise UserError(f"steps_per_level = {self.steps_per_level}: take at least 1")
        if not 0 < self.step_size < 2:
            raise UserError(f"step_size = {self.step_size}: Langevin dynamics is stable between 0 and 2, both excluded")

    def schedule(self, perturbation):
        """Of each step: its level t, the level s the next one is at, and the size and the noise in units of sigma_t."""
        t = np.repeat(np.arange(perturbation.num_steps, 0, -1, dtype=np.int32), self.steps_per_level)
        size = np.full(len(t), self.step_size, np.float32)
        noise = np.sqrt(2 * size)
        if self.denoise:
            t, size, noise = np.append(t, np.int32(1)), np.append(size, np.float32(1)), np.append(noise, np.float32(0))
        return t, np.append(t[1:], np.int32(0)), size, noise

    def step(self, denoiser, x_t, t, s, size, noise, key):
        process = denoiser.perturbation
        sigma, rescale = process.sigma(t), process.alpha(s) / process.alpha(t)
        drift = expand(size * sigma**2, x_t) * denoiser(x_t, t).score
        return expand(rescale, x_t) * (x_t + drift + expand(noise * sigma, x_t) * noise_like(key, x_t))

    def num_evaluations(self, perturbation):
        return perturbation.num_steps * self.steps_per_level + self.denoise
