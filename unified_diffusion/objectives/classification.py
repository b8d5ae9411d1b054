"""Classification of noisy data, which trains a classifier that guides a sampler."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import optax

from unified_diffusion.errors import UserError
from unified_diffusion.objectives.base import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Objective):
    """The loss -log p(label | x_t) at a random level t of each example, in nats. Dhariwal & Nichol 2021, section 4.2.

    The denoiser is read as a classifier: its network puts out logits `[B, classes]`, as the model "classifier" does.

    Args:
        time_sampler, time_sampler_options: as in `Objective`.

    Raises:
        UserError: an unknown name or option, or an option's value out of range; when called, no labels, or a network
            that puts out no logits.
    """

    classifies: ClassVar[bool] = True
    logged: ClassVar[tuple[str, ...]] = ("accuracy",)

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        """Returns (cross-entropy `[B]`, metrics) at given levels and noise.

        The metric "accuracy" is 1 where the likeliest class is the label, and else 0.
        """
        if label is None:
            raise UserError("the objective classification needs labels: set config.denoiser.conditional=true")
        logits = denoiser.output(denoiser.perturbation.perturb(x0, t, noise), t)
        if logits.ndim != 2:
            raise UserError(
                f"the objective classification takes logits [B, classes], and this network gives {list(logits.shape)}: "
                "set config.model.name=classifier"
            )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return loss, {"t": t, "loss": loss, "accuracy": (jnp.argmax(logits, axis=1) == label).astype(jnp.float32)}
