"""Denoising score matching at one noise level."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.objectives.denoising import Denoising


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleLevel:
    """w ‖eps_hat(x_t, t) - eps‖² at one given level t. Vincent 2011, eq. 11.

    Vincent's ½ ‖s(x_t) - (alpha x_0 - x_t) / sigma²‖² has w = 1 / (2 sigma²), half of the weighting `dsm`; with one
    level a weight only scales the learning rate, so the default is 1.

    Args:
        level: its number, from 1 to the perturbation's num_steps; t itself on a chain.
        weighting, weighting_options, norm, reduction: as in `Denoising`.

    Raises:
        UserError: an unknown name; when called, a level that the perturbation has not.
    """

    level: int = 1
    weighting: str | Callable = "simple"
    weighting_options: Mapping = dataclasses.field(default_factory=dict)
    norm: str = "l2"
    reduction: str = "mean"

    def __post_init__(self):
        self._denoising()

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), with noise drawn from `key`."""
        t = at_level(self.level, denoiser.perturbation, len(x0))
        return self._denoising().at(denoiser, x0, t, jax.random.normal(key, x0.shape), label)

    def weight(self, perturbation, t):
        """w(t), shaped like t."""
        return self._denoising().weight(perturbation, t)

    def _denoising(self):
        return Denoising(
            weighting=self.weighting,
            weighting_options=self.weighting_options,
            norm=self.norm,
            reduction=self.reduction,
        )


def at_level(level, perturbation, batch_size):
    """`[batch_size]` times the t of a level by its number.

    Raises:
        UserError: the perturbation has no such level.
    """
    if not 1 <= level <= perturbation.num_steps:
        raise UserError(f"level = {level}: the perturbation's noise levels are 1 to {perturbation.num_steps}")
    t = perturbation.times[level - 1]
    return jnp.full(batch_size, t, jnp.int32 if isinstance(t, np.integer) else jnp.float32)
