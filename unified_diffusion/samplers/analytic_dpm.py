"""Analytic-DPM: ancestral sampling with the best variance, measured on data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like

# The noise scale whose mean absolute value is one of 255 grey levels of images in [-1, 1].
GREY_LEVEL = 2 / 255 * np.sqrt(np.pi / 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyticDPM(Sampler):
    """x_s = a x0_hat + b x_t + sqrt(v) z with v = posterior variance + a² (sigma_t / alpha_t)² (1 - Γ_t).

    Γ_t = E‖eps_hat(x_t)‖² / D, over data: of all state-independent variances, this v makes the reverse step likeliest.
    Bao et al. 2022, theorem 1; a x_0 + b x_t is the posterior's mean (`posterior_coefficients`). The Γ_t are fitted
    first, `sampler = sampler.fitted(denoiser, x0, key)`, which the experiments do by themselves.

    Args:
        num_steps: steps, spread over the levels; None takes every level. One network evaluation a step.
        spacing: how they are spread.
        moments: Γ_t of each step, from the noisiest level down; None until they are fitted.
        clip_x0: clip x0_hat to [-1, 1] in every step, and its variance, (sigma_t / alpha_t)² (1 - Γ_t), to 1, the
            largest on that range (their theorem 2); for images. Without it the variance is still kept to Γ_t in [0, 1].
        last_noise: how many of 255 grey levels the last noise, in the step before the final one, may make on average
            (their appendix on variance clipping); for images. None leaves it alone.

    Raises:
        UserError: moments out of range, or not one for each step; when called, without moments.
    """

    num_steps: int | None = None
    spacing: str = "uniform"
    moments: tuple[float, ...] | None = None
    clip_x0: bool = True
    last_noise: float | None = 1.0

    def __post_init__(self):
        if self.moments is not None and not np.all(np.isfinite(self.moments)):
            raise UserError("AnalyticDPM moments must be finite: fit them with sampler.fitted(denoiser, x0, key)")
        if self.last_noise is not None and not self.last_noise > 0:
            raise UserError(f"last_noise = {self.last_noise}: take a number of grey levels above 0, or none")

    def schedule(self, perturbation):
        """s, t and sqrt(v); without moments the posterior's."""
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        s, t = times[1:], times[:-1]
        if self.moments is not None and len(self.moments) != len(t):
            raise UserError(
                f"AnalyticDPM has {len(self.moments)} moments for {len(t)} steps: "
                "fit them again with sampler.fitted(denoiser, x0, key), or set moments=none"
            )
        (alpha_s, sigma_s, log_snr_s), (alpha, sigma, log_snr) = (perturbation.levels.exact(time) for time in (s, t))
        share = -np.expm1(log_snr - log_snr_s)
        unexplained = 1 - np.clip(np.ones(len(t)) if self.moments is None else self.moments, 0, 1)
        x0_variance = (sigma / alpha) ** 2 * unexplained
        if self.clip_x0:
            x0_variance = np.minimum(x0_variance, 1)
        scale = np.sqrt(share * sigma_s**2 + (alpha_s * share) ** 2 * x0_variance)
        scale[-1] = 0
        if self.last_noise is not None:
            scale[-2:] = np.minimum(scale[-2:], self.last_noise * GREY_LEVEL)
        return s, t, scale

    def step(self, denoiser, x_t, s, t, scale, key):
        if self.moments is None:
            raise UserError(
                "AnalyticDPM has not been fitted: take sampler.fitted(denoiser, x0, key) with some training data x0, "
                "or give its moments"
            )
        prediction = denoiser(x_t, t)
        x0 = jnp.clip(prediction.x0, -1, 1) if self.clip_x0 else prediction.x0
        mean, _ = denoiser.perturbation.posterior(x0, x_t, s, t)
        return mean + expand(scale, x_t) * noise_like(key, x_t)

    def fitted(self, denoiser, x0, key, label=None, batch_size=250):
        """A copy that has the moments of this denoiser, on data x0 `[N, ...]` in data units.

        The data's labels `[N]` go with a conditional network. It takes `fitting_evaluations` for each example.
        """
        times = dataclasses.replace(self, moments=None).schedule(denoiser.perturbation)[1]
        moments = estimate_moments(denoiser, x0, key, times, label=label, batch_size=batch_size)
        return dataclasses.replace(self, moments=tuple(moments.tolist()))

    def fitting_evaluations(self, perturbation):
        """Network evaluations per example that `fitted` takes; 0 where the moments are there."""
        return 0 if self.moments is not None else self.num_evaluations(perturbation)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps


def estimate_moments(denoiser, x0, key, times, *, label=None, batch_size=250):
    """Γ_t = E‖eps_hat(x_t)‖² / D at each of the times, float64 `[len(times)]`. Bao et al. 2022, eq. 8.

    It is the mean of ‖eps_hat‖² - ‖eps‖² plus the known 1 = E‖eps‖² / D: the same on average, and far less noisy where
    eps_hat is close to eps.

    Args:
        denoiser: the model.
        x0: data `[N, ...]` in data units; one draw of noise for each example and time.
        key: a random key.
        times: of the noise levels, `[n]`.
        label: class labels `[N]`, or None.
        batch_size: how many examples at once.
    """
    if not len(x0):
        raise UserError("moments are estimated on data, and none were given")
    excess = np.zeros(len(times))
    for start in range(0, len(x0), batch_size):
        rows = slice(start, start + batch_size)
        batch = jnp.asarray(x0[rows])
        found = _excess(denoiser, batch, jax.random.fold_in(key, start), times, None if label is None else label[rows])
        excess += np.asarray(found, np.float64) * len(batch) / len(x0)
    return 1 + excess


@jax.jit
def _excess(denoiser, x0, key, times, label):
    """Mean of (‖eps_hat‖² - ‖eps‖²) / D at each time."""

    def at(row):
        t, number = row
        noise = jax.random.normal(jax.random.fold_in(key, number), x0.shape)
        eps = denoiser(denoiser.perturbation.perturb(x0, t, noise), t, label).eps
        return jnp.mean((eps - noise) * (eps + noise))

    return jax.lax.map(at, (jnp.asarray(times), jnp.arange(len(times))))
