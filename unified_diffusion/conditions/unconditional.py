"""The condition of a network that is told nothing."""

import dataclasses

from unified_diffusion.conditions.base import Condition
from unified_diffusion.conditions.class_labels import UNSAID
from unified_diffusion.errors import UserError


@dataclasses.dataclass(frozen=True)
class Unconditional(Condition):
    """The condition of a network that is told x_t and the noise level, and nothing else."""

    told = False

    def of(self, batch):
        return None

    def null(self, value):
        raise UserError(UNSAID)

    def check(self, value, batch_size):
        """Returns the value as it is, because a callable of the user's own may read labels without stating it."""
        return value
