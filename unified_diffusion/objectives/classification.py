"""Classification of noisy data: what a classifier that guides a sampler is trained on."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.objectives.time_samplers import TimeSampler, time_sampler


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """-log p(label | x_t) at a random level t of each example, in nats. Dhariwal & Nichol 2021, section 4.2.

    The network puts out logits `[B, classes]`, such as the model "classifier".

    Args:
        time_sampler, time_sampler_options: as in `WeightedLevels`.

    Raises:
        UserError: an unknown name or option, or an option's value out of range.
    """

    classifies: ClassVar[bool] = True
    logged: ClassVar[tuple[str, ...]] = ("accuracy",)

    time_sampler: str | TimeSampler | Callable = "uniform"
    time_sampler_options: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _ = self._time_sampler  # made here, so that mistakes show at once

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        state: Any = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), at levels and with noise drawn from `key`; `denoiser` is read as a classifier.

        metrics hold t, "loss", the cross-entropy, and "accuracy", 1 where the likeliest class is the label and else 0;
        the returned loss is the cross-entropy times the time sampler's weight.

        Raises:
            UserError: no labels, or a network that puts out no logits.
        """
        time_key, noise_key = jax.random.split(key)
        t, importance = self._time_sampler.sample(denoiser.perturbation, time_key, len(x0), state)
        noise = jax.random.normal(noise_key, x0.shape)
        loss, metrics = self.at(denoiser, x0, t, noise, label)
        return importance * loss, metrics

    def at(self, denoiser, x0, t, noise, label):
        """(cross-entropy `[B]`, metrics) at given levels t `[B]` and noise."""
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

    def initial_state(self, perturbation):
        """As in `WeightedLevels`."""
        return self._time_sampler.initial_state(perturbation)

    def update(self, state, metrics):
        """As in `WeightedLevels`."""
        return self._time_sampler.update(state, metrics["t"], metrics["loss"])

    @functools.cached_property
    def _time_sampler(self):
        return time_sampler(self.time_sampler, **self.time_sampler_options)
