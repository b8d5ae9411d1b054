"""UniPC: a predictor and a corrector of any order that share their network evaluations."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose
from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.clipping import x0_and_eps
from unified_diffusion.samplers.exponential import orders, phi


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    """UniP-p predicts x_s; at s, UniC-p corrects it with the x0_hat found there, which is not evaluated once more.

    Zhao et al. 2023, algorithms 1 and 2, multistep, in data prediction. The corrector makes of a predictor of order p a
    method of order p + 1. The first steps are of lower order, and the last, to clean data, gives x0_hat.

    Args:
        num_steps: steps, one network evaluation each.
        order: p, 1, 2 or 3.
        variant: B(h) = exp(-h) - 1 ("bh2") or -h ("bh1"). It matters for the predictor of order 2 and the corrector of
            order 1, whose one coefficient is set to 1/2; the others' coefficients are solved for, and B(h) cancels.
        clip_x0: clip x0_hat to [-1, 1] in every step; for images.
        spacing: how the steps are spread over the levels; "log_snr" is the paper's.

    Raises:
        UserError: any other order or variant.
    """

    num_steps: int = 20
    order: int = 2
    variant: str = "bh2"
    clip_x0: bool = True
    spacing: str = "log_snr"

    def __post_init__(self):
        if self.order not in (1, 2, 3):
            raise UserError(f"UniPC order = {self.order}: take 1, 2 or 3")
        choose(self.variant, ("bh1", "bh2"), "UniPC variant")

    def schedule(self, perturbation):
        """s, t, the weights of predictor `[steps, 4]` and corrector `[steps, 5]`; a step corrects the one before."""
        times = perturbation.timesteps(self.num_steps, self.spacing)
        alpha, sigma, log_snr = perturbation.levels.exact(times)
        h = np.diff(log_snr) / 2
        predictor, corrector = np.zeros((self.num_steps, 4)), np.zeros((self.num_steps + 1, 5))
        predictor[:, 0] = corrector[1:, 0] = sigma[1:] / sigma[:-1]
        predictor[:, 1] = corrector[1:, 1] = -alpha[1:] * np.expm1(-h)
        corrector[0, 0] = 1  # nothing to correct: x_t itself
        for n, order in enumerate(orders(self.num_steps, self.order)[:-1]):
            r = [(log_snr[n - k] - log_snr[n]) / 2 / h[n] for k in range(1, order)]
            predictor[n, 2 : order + 1] = alpha[n + 1] * self._weights(h[n], r)
            *earlier, new = alpha[n + 1] * self._weights(h[n], [*r, 1.0])
            corrector[n + 1, 2 : order + 1], corrector[n + 1, 4] = earlier, new
        return times[1:], times[:-1], predictor, corrector[:-1]

    def _weights(self, h, r):
        """-B(h) a_k / r_k, the weights of x0's differences to the points r_k h away.

        R a = phi / B(h) with R[j, k] = r_k^j, by which polynomials up to degree len(r) are integrated exactly.
        """
        r, b_h = np.array(r), -h if self.variant == "bh1" else np.expm1(-h)
        target = np.array([-h * math.factorial(j) * phi(j + 1, -h) for j in range(1, len(r) + 1)]) / b_h
        a = [0.5] if len(r) == 1 else np.linalg.solve(np.vander(r, increasing=True).T, target)
        return -b_h * np.array(a) / r

    def history(self, x):
        """The corrected x of the step before, and x0_hat of the last three steps."""
        return x, *(jnp.zeros_like(x) for _ in range(3))

    def step(self, denoiser, state, s, t, predictor, corrector, key):
        x_t, (x_1, x0_1, x0_2, x0_3) = state
        x0, _ = x0_and_eps(denoiser, x_t, t, self.clip_x0)
        corrections = x0_2 - x0_1, x0_3 - x0_1, x0 - x0_1
        x_t = _combined(corrector, x_1, x0_1, *corrections)
        x_s = _combined(predictor, x_t, x0, x0_1 - x0, x0_2 - x0)
        return x_s, (x_t, x0, x0_1, x0_2)

    def num_evaluations(self, perturbation):
        return self.num_steps


def _combined(weights, *terms):
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))
