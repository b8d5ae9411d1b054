"""Denoising diffusion implicit models."""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.errors import UserError
from unified_diffusion.samplers.base import Row, Sampler, noise_like
from unified_diffusion.samplers.clipping import x0_and_eps


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """DDIM jumps from level t to any cleaner level s along the predicted noise.

    x_s = alpha_s x0_hat + sqrt(sigma_s² - v) eps_hat + sqrt(v) z, with v = eta² times the posterior's variance (Song,
    Meng & Ermon 2021, eq. 12 and 16). eta = 0 is deterministic; eta = 1 is `Ancestral(variance="small")`.

    Args:
        num_steps: the number of steps; a step is one network evaluation.
        eta: how much of the noise is drawn anew, from 0 to 1.
        clip_x0: clip x0_hat to [-1, 1] in every step, with eps_hat = (x_t - alpha_t x0_hat) / sigma_t of the clipped
            x0_hat; for images.
        spacing: how the steps are spread over the levels.

    Raises:
        UserError: eta outside [0, 1].
    """

    num_steps: int = 50
    eta: float = 0.0
    clip_x0: bool = True
    spacing: str = "uniform"

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta = {self.eta}: take 0, no noise, to 1, as much as ancestral sampling adds")

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_steps, self.spacing)
        return Row(s=times[1:], t=times[:-1])

    def step(self, denoiser, x_t, row, key):
        process = denoiser.perturbation
        x0, eps = x0_and_eps(denoiser, x_t, row.t, self.clip_x0)
        if self.eta == 0:
            return process.perturb(x0, row.s, eps)
        # sqrt(sigma_s² - v) with v = eta² sigma_s² (1 - r), in a form that does not cancel.
        r = jnp.exp(process.log_snr_change(row.s, row.t))
        direction = process.sigma(row.s) * jnp.sqrt((1 - self.eta**2) + self.eta**2 * r)
        noise = self.eta * jnp.sqrt(process.posterior_variance(row.s, row.t)) * noise_like(key, x_t)
        return process.alpha(row.s) * x0 + direction * eps + noise

    def num_evaluations(self, perturbation):
        return self.num_steps
