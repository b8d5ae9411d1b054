"""Implicit score matching with the exact trace."""

import dataclasses
import math

import jax.numpy as jnp

from unified_diffusion.errors import UserError
from unified_diffusion.objectives.score_matching import ScoreMatching, derivatives


@dataclasses.dataclass(frozen=True, kw_only=True)
class Implicit(ScoreMatching):
    """The loss w(t) sigma² (‖s‖² + 2 tr ∇s), where s is the score at x_t and the trace is exact.

    The trace takes one forward-mode pass for each of the D dimensions of an example, all at once. It therefore costs D
    times the time and the memory of a denoising loss. The bracket is twice that of Hyvärinen 2005, theorem 1.
    `ScoreMatching` says how the loss relates to `Denoising`.

    Args:
        weighting, weighting_options, normalize, time_sampler, time_sampler_options: as in `WeightedLevels`.
        level, reduction: as in `ScoreMatching`.
        max_dimensions: the largest D that is accepted.

    Raises:
        UserError: an unknown name; when called, an example of more dimensions, or a level that does not exist.
    """

    max_dimensions: int = 64

    def error(self, eps, x_t, sigma, key):
        """Returns ‖eps‖² - 2 sigma tr ∇eps of each example, `[B]`."""
        del key
        dimensions = math.prod(x_t.shape[1:])
        if dimensions > self.max_dimensions:
            raise UserError(
                f"implicit score matching takes {dimensions} passes for examples of {dimensions} dimensions, "
                f"more than max_dimensions = {self.max_dimensions}: use the objective 'sliced', or raise it"
            )
        basis = jnp.broadcast_to(jnp.eye(dimensions)[:, None], (dimensions, len(x_t), dimensions))
        value, columns = derivatives(eps, x_t, basis)
        return jnp.sum(value**2, axis=1) - 2 * sigma * jnp.einsum("ibi->b", columns)
