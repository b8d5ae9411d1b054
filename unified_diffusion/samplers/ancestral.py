"""Ancestral sampling: the chain, run backwards."""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.perturbations import expand
from unified_diffusion.registry import choose
from unified_diffusion.reverse import VARIANCES, check_variance, reverse_log_variance
from unified_diffusion.samplers.base import Row, Sampler, noise_like


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """Ancestral sampling draws x_s from q(x_s | x_t, x0_hat), the posterior with the predicted x_0 in place of x_0.

    x_s = a x0_hat + b x_t + sqrt(v) z, where a x_0 + b x_t is the posterior's mean (Ho et al. 2020, eq. 7 and
    algorithm 2).

    Args:
        num_steps: the number of steps, spread over the levels; None takes every level. A step is one network
            evaluation.
        variance: v: "large" is the transition's variance, "small" the posterior's, and "learned" is the network's,
            between the two. The last step adds no noise.
        clip_x0: clip x0_hat to [-1, 1] in every step; for images.
        spacing: how the steps are spread over the levels.

    Raises:
        UserError: an unknown variance, or "learned" with a network that predicts no variance.
    """

    num_steps: int | None = None
    variance: str = "large"
    clip_x0: bool = True
    spacing: str = "uniform"

    def __post_init__(self):
        choose(self.variance, VARIANCES, "variance")

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        return Row(s=times[1:], t=times[:-1])

    def step(self, denoiser, x_t, row, key):
        check_variance(denoiser, self.variance, "the ancestral sampler")
        process, prediction = denoiser.perturbation, denoiser(x_t, row.t)
        x0 = jnp.clip(prediction.x0, -1, 1) if self.clip_x0 else prediction.x0
        mean, _ = process.posterior(x0, x_t, row.s, row.t)
        is_last = expand(jnp.asarray(row.s) == 0, x_t)
        return mean + jnp.where(is_last, 0, self._scale(process, prediction, row)) * noise_like(key, x_t)

    def _scale(self, process, prediction, row):
        """sqrt(v), shaped to multiply noise."""
        if self.variance == "learned":
            # The last step, to s = 0, adds no noise, so it does not matter which variance stands for its smallest one.
            return jnp.exp(reverse_log_variance(process, prediction, row.s, row.t, "learned", None) / 2)
        return jnp.sqrt(expand(process.reverse_variance(row.s, row.t, self.variance), prediction.x0))

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps
