"""Denoising score matching at one noise level."""

import dataclasses
import functools
from collections.abc import Mapping

from unified_diffusion.objectives.denoising import Denoising
from unified_diffusion.objectives.time_samplers import OneLevel


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleLevel(Denoising):
    """The loss w ‖eps_hat(x_t, t) - eps‖² at one given level t. Vincent 2011, eq. 11.

    Vincent's ½ ‖s(x_t) - (alpha x_0 - x_t) / sigma²‖² has w = 1 / (2 sigma²), half of the weighting `dsm`. With one
    level, w only scales the learning rate, so the default is 1.

    Args:
        level: the number of the level, from 1 to the perturbation's num_steps; on a chain this is t itself.
        weighting, weighting_options, norm, reduction: as in `Denoising`.

    Raises:
        UserError: an unknown name; when called, a level that the perturbation does not have.
    """

    level: int = 1
    # One level leaves nothing to normalize or to draw, so these three are no arguments.
    normalize: bool = dataclasses.field(default=False, init=False, repr=False)
    time_sampler: str = dataclasses.field(default="uniform", init=False, repr=False)
    time_sampler_options: Mapping = dataclasses.field(default_factory=dict, init=False, repr=False)

    def keys(self, key):
        """Returns None, the key itself for the noise, and None: nothing else is drawn."""
        return None, key, None

    @functools.cached_property
    def _time_sampler(self):
        return OneLevel(level=self.level)
