"""A plain callable as an objective."""

import dataclasses
from collections.abc import Callable

from unified_diffusion.errors import UserError
from unified_diffusion.objectives.base import Objective

VALUES = ("classifies", "discretized", "logged", "needs_reference")
METHODS = ("weight", "effective_weight", "initial_state", "update")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain(Objective):
    """A user's own callable (denoiser, x0, key, label) -> (loss `[B]`, metrics), which draws its own levels and noise.

    Args:
        function: the callable.
    """

    function: Callable

    def __call__(self, *args, **options):
        """Returns what the callable returns. It gets `state` and `reference` only where it has asked for them."""
        return self.function(*args, **options)

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        """Raises UserError, since the callable draws its own levels."""
        raise UserError(
            f"the objective {self.function!r} draws its own noise levels: derive it from "
            "unified_diffusion.objectives.Objective to give them"
        )

    def effective_weight(self, perturbation, state=None):
        """Returns None, since nothing is known of the levels that the callable draws."""


def as_objective(objective):
    """Returns the `Objective` that a callable stands for; an `Objective` comes back as it is.

    A plain callable needs nothing but its call. Where it has members of the same names as `Objective`, such as `logged`
    or `initial_state`, they are taken over, and elsewhere the defaults of `Objective` hold. This function is the only
    place that looks for such members: everything else is given an `Objective`.

    Raises:
        UserError: it is not callable.
    """
    if isinstance(objective, Objective):
        return objective
    if not callable(objective):
        raise UserError(f"an objective is called with (denoiser, x0, key, label), and {objective!r} cannot be called")
    plain = Plain(function=objective)
    # A member of the instance hides the class's own, so these hide the defaults.
    own = {name: getattr(objective, name) for name in (*VALUES, *METHODS) if hasattr(objective, name)}
    vars(plain).update({name: member for name, member in own.items() if name in VALUES or callable(member)})
    return plain
