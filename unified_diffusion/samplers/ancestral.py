"""Ancestral sampling: the chain, run backwards."""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.perturbations import expand
from unified_diffusion.registry import choose
from unified_diffusion.reverse import VARIANCES, check_variance, reverse_log_variance
from unified_diffusion.samplers.base import Sampler, noise_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """x_s = a x0_hat + b x_t + sqrt(v) z: q(x_s | x_t, x0_hat) with variance v. Ho et al. 2020, algorithm 2.

    Args:
        num_steps: steps, spread over the levels; None takes every level. One network evaluation a step.
        variance: v, "large" (the transition's), "small" (the posterior's) or "learned" (the network's, between the
            two). No noise is added in the last step.
        clip_x0: clip x0_hat to [-1, 1] in every step; for images.
        spacing: how the steps are spread over the levels.

    Raises:
        UserError: an unknown variance, or "learned" with a network that puts out none.
    """

    num_steps: int | None = None
    variance: str = "large"
    clip_x0: bool = True
    spacing: str = "uniform"

    def __post_init__(self):
        choose(self.variance, VARIANCES, "variance")

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        return times[1:], times[:-1]

    def step(self, denoiser, x_t, s, t, key):
        check_variance(denoiser, self.variance, "the ancestral sampler")
        process, prediction = denoiser.perturbation, denoiser(x_t, t)
        x0 = jnp.clip(prediction.x0, -1, 1) if self.clip_x0 else prediction.x0
        mean, _ = process.posterior(x0, x_t, s, t)
        return mean + jnp.where(
            expand(jnp.asarray(s) == 0, x_t), 0, self._scale(process, prediction, s, t)
        ) * noise_like(key, x_t)

    def _scale(self, process, prediction, s, t):
        """sqrt(v), shaped to multiply noise."""
        if self.variance == "learned":
            # The last step, to s = 0, adds no noise: whichever variance stands in for its smallest does.
            return jnp.exp(reverse_log_variance(process, prediction, s, t, "learned", None) / 2)
        return jnp.sqrt(expand(process.reverse_variance(s, t, self.variance), prediction.x0))

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
