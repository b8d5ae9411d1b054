"""UniPC: a predictor and a corrector of any order that share their network evaluations."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose
from unified_diffusion.samplers.base import Sampler
from unified_diffusion.samplers.clipping import x0_and_eps
from unified_diffusion.samplers.exponential_integrator import orders, phi


class UniPCRow(NamedTuple):
    """A step from t to s, with the weights of its predictor `[4]` and of the corrector of the step before `[5]`."""

    s: Any
    t: Any
    predictor: Any
    corrector: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    """UniPC predicts x_s by UniP-p, and corrects it by UniC-p with the x0_hat that the next step evaluates anyway.

    This is Zhao et al. 2023, algorithms 1 and 2, multistep, in data prediction. With the corrector, a predictor of
    order p becomes a method of order p + 1. The first steps are of lower order, and the last step, to clean data,
    returns x0_hat.

    Args:
        num_steps: the number of steps; a step is one network evaluation.
        order: p, 1, 2 or 3.
        variant: B(h) = exp(-h) - 1 ("bh2") or -h ("bh1"). The choice matters for the predictor of order 2 and the
            corrector of order 1, whose one coefficient is set to 1/2; all other coefficients are solved for, and B(h)
            cancels in them.
        clip_x0: clip x0_hat to [-1, 1] in every step; for images.
        spacing: how the steps are spread over the levels; "log_snr" is the paper's.

    Raises:
        UserError: any other order or variant.
    """

    remembers: ClassVar[bool] = True

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
        """The rows, with weights `[steps, 4]` and `[steps, 5]`; a step first corrects the step before it."""
        times = perturbation.timesteps(self.num_steps, self.spacing)
        _, alpha, sigma, log_snr, *_ = perturbation.exact(times)
        h = np.diff(log_snr) / 2
        predictor, corrector = np.zeros((self.num_steps, 4)), np.zeros((self.num_steps + 1, 5))
        predictor[:, 0] = corrector[1:, 0] = sigma[1:] / sigma[:-1]
        predictor[:, 1] = corrector[1:, 1] = -alpha[1:] * np.expm1(-h)
        corrector[0, 0] = 1  # the first step corrects nothing and keeps x_t
        for n, order in enumerate(orders(self.num_steps, self.order)[:-1]):
            r = [(log_snr[n - k] - log_snr[n]) / 2 / h[n] for k in range(1, order)]
            predictor[n, 2 : order + 1] = alpha[n + 1] * self._weights(h[n], r)
            *earlier, new = alpha[n + 1] * self._weights(h[n], [*r, 1.0])
            corrector[n + 1, 2 : order + 1], corrector[n + 1, 4] = earlier, new
        return UniPCRow(times[1:], times[:-1], predictor, corrector[:-1])

    def _weights(self, h, r):
        """The weights -B(h) a_k / r_k of the differences between x0_hat here and at the points r_k h away.

        The a solve R a = phi / B(h) with R[j, k] = r_k^j, which integrates polynomials up to degree len(r) exactly.
        """
        r, b_h = np.array(r), -h if self.variant == "bh1" else np.expm1(-h)
        target = np.array([-h * math.factorial(j) * phi(j + 1, -h) for j in range(1, len(r) + 1)]) / b_h
        a = [0.5] if len(r) == 1 else np.linalg.solve(np.vander(r, increasing=True).T, target)
        return -b_h * np.array(a) / r

    def memory(self, x):
        """The corrected x of the step before, and x0_hat of the last three steps."""
        return x, *(jnp.zeros_like(x) for _ in range(3))

    def advance(self, denoiser, x_t, memory, row, key):
        del key
        x_1, x0_1, x0_2, x0_3 = memory
        x0, _ = x0_and_eps(denoiser, x_t, row.t, self.clip_x0)
        corrections = x0_2 - x0_1, x0_3 - x0_1, x0 - x0_1
        x_t = _combined(row.corrector, x_1, x0_1, *corrections)
        x_s = _combined(row.predictor, x_t, x0, x0_1 - x0, x0_2 - x0)
        return x_s, (x_t, x0, x0_1, x0_2)

    def num_evaluations(self, perturbation):
        return self.num_steps


def _combined(weights, *terms):
    """The weighted sum of the terms."""
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))
