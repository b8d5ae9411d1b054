"""Analytic-DPM: ancestral sampling with the best variance, measured on data."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Sampler, noise_like

# This is the noise scale whose mean absolute value is one of 255 grey levels of images in [-1, 1].
GREY_LEVEL = 2 / 255 * np.sqrt(np.pi / 2)


class AnalyticDPMRow(NamedTuple):
    """A step from t to s whose noise has standard deviation `scale`, sqrt(v)."""

    s: Any
    t: Any
    scale: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyticDPM(Sampler):
    """Analytic-DPM is ancestral sampling with the variance v that makes the reverse step likeliest.

    x_s = a x0_hat + b x_t + sqrt(v) z with v = posterior variance + a² (sigma_t / alpha_t)² (1 - Γ_t), where
    Γ_t = E‖eps_hat(x_t)‖² / D is a mean over data, and a x_0 + b x_t the posterior's mean. No other variance that does
    not depend on x_t is likelier (Bao et al. 2022, theorem 1). The moments Γ_t are measured before sampling; the
    commands do that by themselves:

        sampler = AnalyticDPM(num_steps=20).prepare(denoiser, x0, key)

    Args:
        num_steps: the number of steps, spread over the levels; None takes every level. A step is one network
            evaluation.
        spacing: how the steps are spread over the levels.
        moments: Γ_t of each step, from the noisiest level down; None until they are measured.
        clip_x0: clip x0_hat to [-1, 1] in every step, and its variance (sigma_t / alpha_t)² (1 - Γ_t) to 1, the largest
            variance on that range (their theorem 2); for images. Without it, Γ_t is still clipped to [0, 1].
        last_noise: an upper bound on the last noise, added in the step before the final one: its mean size in grey
            levels of 255 (their appendix on variance clipping); for images. None sets no bound.

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
            raise UserError("AnalyticDPM moments must be finite: measure them with sampler.prepare(denoiser, x0, key)")
        if self.last_noise is not None and not self.last_noise > 0:
            raise UserError(f"last_noise = {self.last_noise}: take a number of grey levels above 0, or none")

    @property
    def needs_data(self):
        """Whether the moments are still to be measured."""
        return self.moments is None

    def schedule(self, perturbation):
        """The rows; without moments v is the posterior's variance."""
        times = perturbation.timesteps(self.num_evaluations(perturbation), self.spacing)
        s, t = times[1:], times[:-1]
        if self.moments is not None and len(self.moments) != len(t):
            raise UserError(
                f"AnalyticDPM has {len(self.moments)} moments for {len(t)} steps: "
                "set moments=none, so that they are measured again"
            )
        at_s, at_t = perturbation.exact(s), perturbation.exact(t)
        share = -np.expm1(at_t.log_snr - at_s.log_snr)
        unexplained = 1 - np.clip(np.ones(len(t)) if self.moments is None else self.moments, 0, 1)
        x0_variance = at_t.noise_to_signal**2 * unexplained
        if self.clip_x0:
            x0_variance = np.minimum(x0_variance, 1)
        scale = np.sqrt(share * at_s.sigma**2 + (at_s.alpha * share) ** 2 * x0_variance)
        scale[-1] = 0
        if self.last_noise is not None:
            scale[-2:] = np.minimum(scale[-2:], self.last_noise * GREY_LEVEL)
        return AnalyticDPMRow(s, t, scale)

    def step(self, denoiser, x_t, row, key):
        if self.moments is None:
            raise UserError(
                "AnalyticDPM has not been fitted: take sampler.prepare(denoiser, x0, key) with some training data x0, "
                "or give its moments"
            )
        prediction = denoiser(x_t, row.t)
        x0 = jnp.clip(prediction.x0, -1, 1) if self.clip_x0 else prediction.x0
        mean, _ = denoiser.perturbation.posterior(x0, x_t, row.s, row.t)
        return mean + expand(row.scale, x_t) * noise_like(key, x_t)

    def prepare(self, denoiser, data, key, label=None, batch_size=250):
        """A copy with the moments of this denoiser; the sampler itself where the moments are known."""
        return self.fitted(denoiser, data, key, label, batch_size) if self.needs_data else self

    def fitted(self, denoiser, x0, key, label=None, batch_size=250):
        """A copy whose moments are measured anew on data x0 `[N, ...]` in data units.

        The labels `[N]` of the data are for a conditional network. The cost is one network evaluation for each example
        and step.
        """
        times = dataclasses.replace(self, moments=None).schedule(denoiser.perturbation).t
        moments = estimate_moments(denoiser, x0, key, times, label=label, batch_size=batch_size)
        return dataclasses.replace(self, moments=tuple(moments.tolist()))

    def preparation_evaluations(self, perturbation):
        return self.num_evaluations(perturbation) if self.needs_data else 0

    def fitting_evaluations(self, perturbation):
        """The older name of `preparation_evaluations`."""
        return self.preparation_evaluations(perturbation)

    def with_steps(self, num_steps):
        """A copy with another number of steps, for which the moments are to be measured."""
        return dataclasses.replace(self, num_steps=num_steps, moments=None)

    def num_evaluations(self, perturbation):
        return perturbation.num_steps if self.num_steps is None else self.num_steps


def estimate_moments(denoiser, x0, key, times, *, label=None, batch_size=250):
    """The moments Γ_t = E‖eps_hat(x_t)‖² / D at each of the times, float64 `[n]` (Bao et al. 2022, eq. 8).

    The estimate is the mean of (‖eps_hat‖² - ‖eps‖²) / D, plus the known 1 = E‖eps‖² / D. It has the same mean as that
    of ‖eps_hat‖² / D, and far less variance where eps_hat is close to eps.

    Args:
        denoiser: the model.
        x0: data `[N, ...]` in data units; one noise is drawn for each example and time.
        key: a random key.
        times: the noise levels t, `[n]`.
        label: class labels `[N]`, or None.
        batch_size: how many examples are evaluated at once.

    Raises:
        UserError: no data.
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
    """The mean of (‖eps_hat‖² - ‖eps‖²) / D at each time."""

    def at(row):
        t, number = row
        noise = jax.random.normal(jax.random.fold_in(key, number), x0.shape)
        eps = denoiser(denoiser.perturbation.perturb(x0, t, noise), t, label).eps
        return jnp.mean((eps - noise) * (eps + noise))

    return jax.lax.map(at, (jnp.asarray(times), jnp.arange(len(times))))
