"""What objectives over noise levels share: which levels are drawn, and how much each counts."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from unified_diffusion.objectives.time_samplers import TimeSampler, time_sampler
from unified_diffusion.objectives.weightings import weighting
from unified_diffusion.perturbations import Perturbation


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedLevels:
    """A weighting of the noise levels, and a sampler of them: the part of an objective that is about t.

    A time sampler that re-weights, such as "importance", leaves the expected loss as it is; one that does not, such as
    "lognormal", changes it as a weighting does. `effective_weight` is what the two make together.

    Args:
        weighting: a name in `WEIGHTINGS`, "module:function", or a function of (perturbation, t).
        weighting_options: options of that weighting, such as {"variance": "small"}.
        normalize: divide the weighting by its mean over the noise levels, so that a comparison of weightings is one of
            shapes and not of learning rates.
        time_sampler: a name in `TIME_SAMPLERS`, "module:attribute", a `TimeSampler`, or a function of (perturbation,
            key, batch_size).
        time_sampler_options: options of that time sampler, such as {"p_mean": -1.0}.

    Raises:
        UserError: an unknown name or option, or an option's value out of range.
    """

    weighting: str | Callable = "simple"
    weighting_options: Mapping = dataclasses.field(default_factory=dict)
    normalize: bool = False
    time_sampler: str | TimeSampler | Callable = "uniform"
    time_sampler_options: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _ = self._weighting, self._time_sampler  # made here, so that mistakes show at once

    def draw(self, perturbation, key, batch_size, state=None):
        """(t, weight), each `[batch_size]`: levels, and what each example's loss is to be multiplied by.

        `state` is what the time sampler remembers; without it, one draws as before its first batch.
        """
        return self._time_sampler.sample(perturbation, key, batch_size, state)

    def weight(self, perturbation, t):
        """w(t), shaped like t."""
        weight = self._weighting(perturbation, t)
        if not self.normalize:
            return weight
        return weight / jnp.mean(self._weighting(perturbation, perturbation.times))

    def effective_weight(
        self, perturbation: Perturbation, state: Any = None
    ) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
        """(lambda, w(t) p(t) / |dlambda/dt|) at the levels `times`: what the error is integrated over lambda with.

        lambda is the log-SNR. p is the levels' probability, or uniform where the time sampler makes up for it. Two
        objectives, on whatever ladders, ask for the same where this is the same. Kingma & Gao 2023, section 3.

        Raises:
            UserError: a function as time sampler, whose probabilities are not known, or a ladder of a single level.
        """
        t = perturbation.times
        sampler = self._time_sampler
        p = 1 / perturbation.num_steps if sampler.reweights else sampler.probabilities(perturbation, state)
        density = jnp.asarray(p, jnp.float32) / -(perturbation.level_width * perturbation.log_snr_slope(t))
        return perturbation.log_snr(t), self.weight(perturbation, t) * density

    def initial_state(self, perturbation):
        """What the time sampler remembers before training, or None: given back as `state`, and a part of checkpoints.

        Raises:
            UserError: a time sampler that is not for this perturbation.
        """
        return self._time_sampler.initial_state(perturbation)

    def update(self, state, metrics):
        """The state after a batch whose metrics hold its levels "t" `[B]`, and "loss" `[B]` before `draw`'s weight."""
        return self._time_sampler.update(state, metrics["t"], metrics["loss"])

    @functools.cached_property
    def _weighting(self):
        return weighting(self.weighting, **self.weighting_options)

    @functools.cached_property
    def _time_sampler(self):
        return time_sampler(self.time_sampler, **self.time_sampler_options)
