"""The Markov chain of denoising diffusion probabilistic models."""

import dataclasses
import functools

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import Level, variance_preserving
from unified_diffusion.perturbations.chain import Chain
from unified_diffusion.perturbations.cosine import Cosine
from unified_diffusion.perturbations.interpolated import Interpolated
from unified_diffusion.perturbations.vp import VP
from unified_diffusion.registry import lookup


def linear(num_steps, beta_start, beta_end):
    """Linearly rising betas `[num_steps]`. Ho et al. 2020, section 4."""
    return np.linspace(beta_start, beta_end, num_steps)


def cosine(num_steps, beta_start, beta_end):
    """The betas `[num_steps]` of an alpha-bar that is a squared cosine of t, at most 0.999 each.

    Nichol & Dhariwal 2021, eq. 17.
    """
    del beta_start, beta_end
    t = np.arange(num_steps + 1) / num_steps
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


SCHEDULES = {"linear": linear, "cosine": cosine}


@dataclasses.dataclass(frozen=True)
class DDPM(Chain):
    """The chain of DDPM: x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) z. Ho et al. 2020, eq. 2.

    alpha² + sigma² = 1 at every level, and the prior is N(0, I).

        process = DDPM(num_steps=1000, schedule="linear")
        x_t = process.perturb(x0, 500, noise)

    Args:
        num_steps: T, the number of noise levels.
        schedule: "linear" or "cosine".
        beta_start: the linear schedule's first beta.
        beta_end: the linear schedule's last beta.
        betas: T variances in (0, 1), in place of a schedule.

    Raises:
        UserError: unknown schedule, fewer than one step, or a beta outside (0, 1).
    """

    num_steps: int = 1000
    schedule: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    betas: tuple[float, ...] | np.ndarray | None = None

    def __post_init__(self):
        if self.betas is not None:
            object.__setattr__(self, "betas", tuple(float(beta) for beta in np.ravel(self.betas)))
            object.__setattr__(self, "num_steps", len(self.betas))
        if self.num_steps < 1:
            raise UserError(f"DDPM num_steps = {self.num_steps}: take at least 1")
        if not np.all((self._betas > 0) & (self._betas < 1)):
            raise UserError("DDPM betas must lie strictly between 0 and 1: change betas, or beta_start and beta_end")

    @functools.cached_property
    def _betas(self):
        if self.betas is not None:
            return np.asarray(self.betas, np.float64)
        return lookup(SCHEDULES, self.schedule, "beta schedule")(self.num_steps, self.beta_start, self.beta_end)

    @functools.cached_property
    def table(self):
        log_alpha_bar = np.concatenate([[0.0], np.cumsum(np.log1p(-self._betas))])
        variance = -np.expm1(log_alpha_bar)
        with np.errstate(divide="ignore"):
            log_snr = log_alpha_bar - np.log(variance)
        return Level(np.arange(len(variance)), np.exp(log_alpha_bar / 2), np.sqrt(variance), log_snr)

    @property
    def prior_sigma(self):
        return 1.0

    @functools.cached_property
    def continuous(self):
        """`VP` with beta(t) = num_steps beta_t for linear betas, `Cosine` for cosine ones, else `Interpolated`."""
        if self.num_steps == 1:
            raise UserError("a chain of a single level has no limit in continuous time: take at least 2 levels")
        if self.betas is None and self.schedule == "linear":
            ends = (self.num_steps * self.beta_start, self.num_steps * self.beta_end)
            return VP(self.num_steps, *ends, t_min=1 / self.num_steps)
        if self.betas is None and self.schedule == "cosine":
            return Cosine(self.num_steps, t_min=1 / self.num_steps)
        return Interpolated(tuple(self.table.log_snr[1:].tolist()), exploding=False)

    def scales(self, log_snr):
        return variance_preserving(log_snr)
