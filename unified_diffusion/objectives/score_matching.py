"""Score matching without a noise target, the common part of `Implicit` and `Sliced`."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unified_diffusion.objectives.base import WeightedLevels
from unified_diffusion.objectives.time_samplers import OneLevel
from unified_diffusion.registry import choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreMatching(WeightedLevels):
    """The loss w(t) sigma² (‖s‖² + 2 tr ∇s) at a random level t of each example, where s is the score at x_t.

    Half of the bracket is the loss of Hyvärinen 2005, theorem 1. The factor sigma² makes all levels count alike, as in
    Song & Ermon 2019, section 4.2. The code computes the same number from eps_hat = -sigma s:
    w(t) (‖eps_hat‖² - 2 sigma tr ∇eps_hat).

    By Stein's lemma, E[eps_hat · eps] = sigma E[tr ∇eps_hat] for the noise eps in x_t. In expectation the loss is
    therefore w(t) (‖eps_hat - eps‖² - D): that of `Denoising` with the same weighting, less a constant, and with the
    same gradient (Vincent 2011, section 4.2). It differs from `Denoising` in that it never uses eps, and so in its
    variance. It may be negative.

    Args:
        level: the number of one level for all examples, in place of the time sampler.
        reduction: "mean" divides by the D dimensions of an example, "sum" does not.
    """

    level: int | None = None
    reduction: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        choose(self.reduction, ("mean", "sum"), "reduction")

    @abc.abstractmethod
    def error(self, eps: Callable, x_t: Array, sigma: Array, key: Any) -> Float[Array, " b"]:
        """Returns ‖eps‖² - 2 sigma tr ∇eps of each example, or an unbiased estimate of it.

        Args:
            eps: the function x_t -> eps_hat, both `[B, ...]`; it treats each example by itself.
            x_t: the points at which the derivatives are taken.
            sigma: noise scales `[B]`.
            key: the key of the random projections; None for an objective that draws none.
        """

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        """Returns (loss `[B]`, metrics) at given levels and noise; the metric "error" is the loss without w(t).

        `key` is that of the random projections.
        """
        if _is_key(label):  # Version 0.1 took (…, noise, key, label).
            label, key = key, label
        process = denoiser.perturbation
        x_t = process.perturb(x0, t, noise)
        error = self.error(lambda x: denoiser(x, t, label).eps, x_t, process.sigma(t), key)
        error = error / math.prod(x0.shape[1:]) if self.reduction == "mean" else error
        return self.weight(process, t) * error, {"t": t, "error": error}

    @functools.cached_property
    def _time_sampler(self):
        return super()._time_sampler if self.level is None else OneLevel(level=self.level)


def derivatives(eps, x_t, directions):
    """Returns eps(x_t) and its derivatives ∇eps v along directions v, by one forward-mode pass for each direction.

    Args:
        eps: the function x_t `[B, ...]` -> `[B, ...]`.
        x_t: the points at which the derivatives are taken.
        directions: `[M, B, D]`.

    Returns:
        (`[B, D]`, `[M, B, D]`), with the D dimensions of an example as one vector.
    """
    push = jax.vmap(lambda v: jax.jvp(eps, (x_t,), (v.reshape(x_t.shape),)), out_axes=(None, 0))
    value, products = push(jnp.asarray(directions))
    return value.reshape(len(x_t), -1), products.reshape(directions.shape)


def _is_key(value):
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
