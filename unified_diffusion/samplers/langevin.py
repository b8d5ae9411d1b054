"""Annealed Langevin dynamics."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like


class LangevinRow(NamedTuple):
    """A Langevin step at level t; s is the level of the step after it.

    The drift is size sigma_t² score, and the noise has standard deviation noise sigma_t.
    """

    s: Any
    t: Any
    size: Any
    noise: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics takes many steps at each noise level, from the noisiest level to the cleanest.

    A step is x + a score + sqrt(2 a) z with a = step_size sigma_t²: Song & Ermon 2019, algorithm 1, as its authors ran
    it. (The paper prints a/2 and sqrt(a), so its a is twice as large.) The last step is Tweedie's x + sigma² score
    without noise, Song & Ermon 2020, algorithm 1. Between levels x is multiplied by alpha_s / alpha_t, which is 1 for
    NCSN; on any other process the sampler is annealed Langevin dynamics of x / alpha.

    Args:
        steps_per_level: the number of Langevin steps at each level; a step is one network evaluation.
        step_size: a / sigma_t²; stable below 2.
        denoise: end with the denoising step, one evaluation more.
        num_levels: the number of noise levels, spread over the perturbation's; None takes every level.
        spacing: how these levels are spread; "log_snr" is NCSN's geometric spacing, on any perturbation.

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
        """The rows; s = t except in the last step at a level."""
        t = np.repeat(self._levels(perturbation), self.steps_per_level)
        size = np.full(len(t), self.step_size, np.float32)
        noise = np.sqrt(2 * size)
        if self.denoise:
            t, size, noise = np.append(t, t[-1:]), np.append(size, np.float32(1)), np.append(noise, np.float32(0))
        return LangevinRow(s=np.append(t[1:], np.zeros_like(t[:1])), t=t, size=size, noise=noise)

    def step(self, denoiser, x_t, row, key):
        process = denoiser.perturbation
        sigma, rescale = process.sigma(row.t), process.alpha(row.s) / process.alpha(row.t)
        drift = expand(row.size * sigma**2, x_t) * denoiser(x_t, row.t).score
        return expand(rescale, x_t) * (x_t + drift + expand(row.noise * sigma, x_t) * noise_like(key, x_t))

    def num_evaluations(self, perturbation):
        return len(self._levels(perturbation)) * self.steps_per_level + self.denoise

    def with_steps(self, num_steps):
        """A copy that takes this number of steps, all at one level."""
        return dataclasses.replace(self, num_levels=1, steps_per_level=num_steps)

    def _levels(self, perturbation):
        """The levels t at which the sampler takes its steps, falling."""
        if self.num_levels is None:
            return perturbation.times[::-1]
        return perturbation.timesteps(self.num_levels, self.spacing)[:-1]
