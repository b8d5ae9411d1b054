"""The optimizer: Adam, as the papers use it."""

import dataclasses

import optax

from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Adam with linear warm-up, on gradients clipped by global norm. Kingma & Ba 2015; the defaults are those of DDPM.

        transformation = Optimizer(learning_rate=1e-4).transformation(num_steps=100_000)

    Args:
        learning_rate: the learning rate after warm-up.
        warmup_steps: the number of steps of linear rise from 0 to the learning rate.
        schedule: "constant", or "cosine" down to 0 at the last step.
        gradient_clip: the largest global norm of the gradient of the batch's mean loss; 0 for no clipping.
        b1: the decay of the first moment.
        b2: the decay of the second moment.
        eps: the number that is added to the root of the second moment.
        weight_decay: the decoupled weight decay, as in AdamW; 0 for none.

    Raises:
        UserError: an unknown schedule, or a number out of range.
    """

    learning_rate: float = 2e-4
    warmup_steps: int = 5000
    schedule: str = "constant"
    gradient_clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self):
        choose(self.schedule, ("constant", "cosine"), "learning rate schedule")
        for name in ("learning_rate", "eps"):
            if not getattr(self, name) > 0:
                raise UserError(f"optimizer.{name} = {getattr(self, name)}: it must be above 0")
        for name in ("warmup_steps", "gradient_clip", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise UserError(f"optimizer.{name} = {getattr(self, name)}: it must not be negative")

    def transformation(self, num_steps):
        """The optax transformation for a run of `num_steps` steps."""
        clip = optax.clip_by_global_norm(self.gradient_clip) if self.gradient_clip else optax.identity()
        decay = optax.add_decayed_weights(self.weight_decay) if self.weight_decay else optax.identity()
        return optax.chain(
            clip,
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            decay,
            optax.scale_by_learning_rate(self.rate(num_steps)),
        )

    def rate(self, num_steps):
        """The learning rate as a function of the step."""
        if self.schedule == "constant":
            after = optax.constant_schedule(self.learning_rate)
        else:
            after = optax.cosine_decay_schedule(self.learning_rate, max(num_steps - self.warmup_steps, 1))
        if not self.warmup_steps:
            return after
        warmup = optax.linear_schedule(0.0, self.learning_rate, self.warmup_steps)
        return optax.join_schedules([warmup, after], [self.warmup_steps])
