"""The noise scales of noise-conditional score networks, as a Markov chain."""

import dataclasses
import functools

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations.base import Level, variance_exploding
from unified_diffusion.perturbations.chain import Chain
from unified_diffusion.perturbations.interpolated import Interpolated
from unified_diffusion.perturbations.ve import VE


@dataclasses.dataclass(frozen=True)
class NCSN(Chain):
    """The chain of NCSN: x_t = x_{t-1} + sqrt(sigma_t² - sigma_{t-1}²) z, with alpha = 1. Song & Ermon 2019.

        process = NCSN(num_steps=10, sigma_min=0.02, sigma_max=2.0)
        x_t = process.perturb(x0, 5, noise)

    sigma rises geometrically. Levels count upwards, sigma_1 < … < sigma_L, the reverse of the papers. Data are in
    [-1, 1], so the published sigmas, which are for [0, 1], stand doubled: NCSN's CIFAR-10 ladder of 10 levels from 1 to
    0.01 is 2.0 to 0.02 here, the default; NCSNv2's is 232 levels, 100 to 0.02. Song et al. 2021, appendix B, write NCSN
    as a chain.

    Args:
        num_steps: L, the number of noise levels.
        sigma_min: the smallest noise scale, in data units.
        sigma_max: the largest noise scale, in data units, which is also that of the prior.
        sigmas: L positive noise scales, strictly rising or strictly falling, in place of the geometric ladder.

    Raises:
        UserError: fewer than one level, or noise scales that are not positive and strictly monotonic.
    """

    num_steps: int = 10
    sigma_min: float = 0.02
    sigma_max: float = 2.0
    sigmas: tuple[float, ...] | np.ndarray | None = None

    def __post_init__(self):
        if self.sigmas is not None:
            sigmas = np.ravel(np.asarray(self.sigmas, np.float64))
            rising = sigmas[::-1] if np.all(np.diff(sigmas) < 0) else sigmas
            object.__setattr__(self, "sigmas", tuple(rising.tolist()))
            object.__setattr__(self, "num_steps", len(sigmas))
        if self.num_steps < 1:
            raise UserError(f"NCSN num_steps = {self.num_steps}: take at least 1")
        if not self._sigmas[0] > 0 or not np.isfinite(self._sigmas[-1]) or not np.all(np.diff(self._sigmas) > 0):
            raise UserError(
                "NCSN noise scales must be positive and strictly rising: change sigmas, or sigma_min and sigma_max"
            )

    @functools.cached_property
    def _sigmas(self):
        if self.sigmas is not None:
            return np.asarray(self.sigmas, np.float64)
        if not 0 < self.sigma_min < self.sigma_max < np.inf:
            raise UserError(f"NCSN needs 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}")
        if self.num_steps == 1:
            raise UserError("NCSN num_steps = 1 leaves open which noise scale it is: give it as sigmas=(value,)")
        return np.geomspace(self.sigma_min, self.sigma_max, self.num_steps)

    @functools.cached_property
    def table(self):
        sigma = np.concatenate([[0.0], self._sigmas])
        with np.errstate(divide="ignore"):
            log_snr = -2 * np.log(sigma)
        return Level(np.arange(len(sigma)), np.ones_like(sigma), sigma, log_snr)

    @functools.cached_property
    def continuous(self):
        """`VE` with the same levels for the geometric chain, else `Interpolated`."""
        if self.num_steps == 1:
            raise UserError("a chain of a single level has no limit in continuous time: take at least 2 levels")
        if self.sigmas is None:
            return VE(self.num_steps, self.sigma_min, self.sigma_max)
        return Interpolated(tuple(self.table.log_snr[1:].tolist()), exploding=True)

    @property
    def prior_sigma(self):
        return float(self._sigmas[-1])

    def scales(self, log_snr):
        return variance_exploding(log_snr)
