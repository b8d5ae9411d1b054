"""Score matching without a noise target: what `Implicit` and `Sliced` share."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.objectives.levels import WeightedLevels
from unified_diffusion.objectives.single_level import at_level
from unified_diffusion.registry import choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreMatching(WeightedLevels, abc.ABC):
    """w(t) sigma² (‖s‖² + 2 tr ∇s) at a random level t of each example, with s the score at x_t; or an estimate of it.

    Hyvärinen 2005, theorem 1, is half of the bracket; sigma² makes all levels count alike, as in Song & Ermon 2019,
    section 4.2. What is computed is the same in eps = -sigma s: w(t) (‖eps_hat‖² - 2 sigma tr ∇eps_hat).

    By Stein's lemma E[eps_hat · eps] = sigma E[tr ∇eps_hat], for the noise eps in x_t. So in expectation this is
    w(t) (‖eps_hat - eps‖² - D): `Denoising` with the same weighting, less a constant, and with the same gradient
    (Vincent 2011, section 4.2). It differs in never looking at eps, and so in its variance. It may well be negative.

    Args:
        level: one level t for all examples, instead of the time sampler.
        reduction: "mean" divides by the D dimensions of an example, "sum" does not.
    """

    level: int | None = None
    reduction: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        choose(self.reduction, ("mean", "sum"), "reduction")

    @abc.abstractmethod
    def error(self, eps: Callable, x_t: Array, sigma: Array, key: PRNGKeyArray) -> Float[Array, " b"]:
        """‖eps‖² - 2 sigma tr ∇eps of each example, or an unbiased estimate.

        Args:
            eps: the function x_t -> eps_hat, both `[B, ...]`; examples do not see each other.
            x_t: where.
            sigma: noise scales `[B]`.
            key: of the random projections.
        """

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        state: Any = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), at levels, with noise and along projections drawn from `key`; else as `Denoising`."""
        time_key, noise_key, projection_key = jax.random.split(key, 3)
        if self.level is None:
            t, importance = self.draw(denoiser.perturbation, time_key, len(x0), state)
        else:
            t, importance = at_level(self.level, denoiser.perturbation, len(x0)), 1
        noise = jax.random.normal(noise_key, x0.shape)
        loss, metrics = self.at(denoiser, x0, t, noise, projection_key, label)
        return importance * loss, metrics | {"loss": loss}

    def at(self, denoiser, x0, t, noise, key, label=None):
        """(loss `[B]`, metrics) at given levels t `[B]` and noise; metrics hold t and the error before its weight."""
        process = denoiser.perturbation
        x_t = process.perturb(x0, t, noise)
        error = self.error(lambda x: denoiser(x, t, label).eps, x_t, process.sigma(t), key)
        error = error / math.prod(x0.shape[1:]) if self.reduction == "mean" else error
        return self.weight(process, t) * error, {"t": t, "error": error}


def derivatives(eps, x_t, directions):
    """eps(x_t) and its derivatives ∇eps v along directions v, by forward mode: one pass a direction, all at once.

    Args:
        eps: x_t `[B, ...]` -> `[B, ...]`.
        x_t: where.
        directions: `[M, B, D]`.

    Returns:
        (`[B, D]`, `[M, B, D]`): each example as a vector of its D dimensions.
    """
    push = jax.vmap(lambda v: jax.jvp(eps, (x_t,), (v.reshape(x_t.shape),)), out_axes=(None, 0))
    value, products = push(jnp.asarray(directions))
    return value.reshape(len(x_t), -1), products.reshape(directions.shape)
