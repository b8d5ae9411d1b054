"""Class labels as a condition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from unified_diffusion.conditions.base import Condition
from unified_diffusion.errors import UserError

UNSAID = (
    "this network does not say how many classes it is given: build it with num_classes > 0; one of your own has an "
    "attribute num_classes, and reads the label num_classes as none"
)


@dataclasses.dataclass(frozen=True)
class ClassLabels(Condition):
    """Class labels are integers `[B]`: the classes 0 … num_classes - 1, and num_classes for "no label".

    Args:
        num_classes: the number of classes, or None for a network that does not state it; such a network has no label
            that means "no label".

    Raises:
        UserError: fewer than one class.
    """

    num_classes: int | None

    def __post_init__(self):
        if self.num_classes is not None and self.num_classes < 1:
            raise UserError(f"num_classes = {self.num_classes}: class labels need at least 1 class")

    def of(self, batch):
        return batch["label"]

    def null(self, value):
        if self.num_classes is None:
            raise UserError(UNSAID)
        return jnp.full_like(value, self.num_classes)

    def check(self, value, batch_size):
        value = value if isinstance(value, jax.Array) else np.asarray(value)
        if not jnp.issubdtype(value.dtype, jnp.integer):
            raise UserError(f"class labels are integers, not {value.dtype}: convert them with labels.astype(int)")
        if value.ndim and value.shape != (batch_size,):
            raise UserError(
                f"class labels of shape {list(value.shape)} for {batch_size} examples: give one label, or one for each"
            )
        if not isinstance(value, Tracer) and value.size:
            known = np.asarray(value)
            low, high = int(known.min()), int(known.max())
            if low < 0 or (self.num_classes is not None and high > self.num_classes):
                last = "" if self.num_classes is None else f" to {self.num_classes - 1}, and {self.num_classes} is none"
                raise UserError(f"class label {low if low < 0 else high}: the classes are 0{last}")
        return jnp.asarray(value)
