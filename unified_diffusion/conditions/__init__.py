"""Conditions: the kinds of things that a network is told beside x_t and t. A new kind is one file and one line here."""

from unified_diffusion.conditions.base import Condition, Value
from unified_diffusion.conditions.class_labels import ClassLabels
from unified_diffusion.conditions.unconditional import Unconditional

__all__ = ["ClassLabels", "Condition", "Unconditional", "Value", "condition_of"]


def condition_of(network) -> Condition:
    """Returns the `Condition` of a network, which may be any callable.

    A network states its condition in an attribute `condition`, a `Condition`, or in an attribute `num_classes`, which
    stands for `ClassLabels(num_classes)`. A network with neither attribute is told nothing.
    """
    own = getattr(network, "condition", None)
    if isinstance(own, Condition):
        return own
    num_classes = getattr(network, "num_classes", 0)
    return ClassLabels(num_classes) if num_classes else Unconditional()
