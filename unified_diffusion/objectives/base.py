"""The base class of all objectives, and the part that objectives with a weighting share."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from unified_diffusion.conditions import Value
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.objectives.time_samplers import TimeSampler, time_sampler
from unified_diffusion.objectives.weightings import weighting
from unified_diffusion.perturbations import Perturbation
from unified_diffusion.perturbations.base import Time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """An objective turns a denoiser and a batch of clean data into one loss per example.

    A call draws a noise level t and noise for each example, asks `at` for the loss there, and multiplies that loss by
    the weight of the time sampler. A new objective therefore defines `at` alone:

        @dataclasses.dataclass(frozen=True, kw_only=True)
        class AbsoluteError(Objective):
            def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
                x_t = denoiser.perturbation.perturb(x0, t, noise)
                return jnp.mean(jnp.abs(denoiser(x_t, t, label).x0 - x0), axis=tuple(range(1, x0.ndim))), {}

    The attributes below are the whole protocol. A subclass sets those that differ, as class attributes or as fields.

    Attributes:
        classifies: the network is a classifier, which draws no samples.
        discretized: the objective reads x0 as one of 256 grey levels, so it is for images and not for points.
        logged: names of metrics whose means over the batch are written to the run's metrics.
        needs_reference: a call needs `reference`, a denoiser to learn from. The train step gives the denoiser with the
            averaged parameters, and no gradient flows into it.

    Args:
        time_sampler: a name in `TIME_SAMPLERS`, "module:attribute", a `TimeSampler`, or a function of (perturbation,
            key, batch_size).
        time_sampler_options: options of that time sampler, such as {"p_mean": -1.0}.

    Raises:
        UserError: an unknown name or option, or an option's value out of range.
    """

    classifies: ClassVar[bool] = False
    discretized: ClassVar[bool] = False
    logged: ClassVar[tuple[str, ...]] = ()
    needs_reference: ClassVar[bool] = False

    time_sampler: str | TimeSampler | Callable = "uniform"
    time_sampler_options: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _ = self._time_sampler  # The time sampler is made here, so that mistakes show at once.

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Value = None,
        state: Any = None,
        reference: Denoiser | None = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """Returns (loss `[B]`, metrics) at levels and with noise drawn from `key`.

        Args:
            denoiser: the network that learns.
            x0: clean data.
            key: of everything that is drawn.
            label: the condition of each example, such as class labels `[B]`, for a network that is told one.
            state: memory of the objective; None draws as before the first batch.
            reference: a second denoiser, for an objective that sets `needs_reference`.

        The metrics, `[B]` each, are those of `at`, the levels "t", and "loss", the loss of `at`. The returned loss is
        "loss" times the weight of the time sampler.

        Raises:
            UserError: no `reference` for an objective that needs one.
        """
        if self.needs_reference and reference is None:
            raise UserError(f"the objective {type(self).__name__} learns from another denoiser: give it as reference=")
        time_key, noise_key, own_key = self.keys(key)
        t, importance = self.draw(denoiser.perturbation, time_key, len(x0), state)
        noise = jax.random.normal(noise_key, x0.shape)
        loss, metrics = self.at(denoiser, x0, t, noise, label, own_key, reference)
        return importance * loss, {"t": t, **metrics, "loss": loss}

    @abc.abstractmethod
    def at(
        self, denoiser, x0, t, noise, label=None, key=None, reference=None
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """Returns (loss `[B]`, metrics) at given levels and with given noise.

        Args:
            denoiser, x0, label, reference: as in a call.
            t: noise levels `[B]`.
            noise: eps, shaped like x0, from which x_t = alpha x0 + sigma eps is made.
            key: of whatever else the objective draws.
        """

    def keys(self, key):
        """Returns three keys: of the levels, of the noise, and of whatever else `at` draws.

        The first two are those of `jax.random.split(key)`: in JAX the keys of a split do not depend on their number.
        """
        return jax.random.split(key, 3)

    def draw(self, perturbation, key, batch_size, state=None):
        """Returns (t, weight), each `[batch_size]`: the levels, and the factors that multiply the losses.

        `state` is the memory of the time sampler; without it, levels are drawn as before the first batch.
        """
        return self._time_sampler.sample(perturbation, key, batch_size, state)

    def weight(self, perturbation: Perturbation, t: Time) -> Float[Array, "..."] | None:
        """Returns w(t), the multiplier of ‖eps_hat - eps‖² at level t, shaped like t; None if the loss has none."""
        return None

    def effective_weight(
        self, perturbation: Perturbation, state: Any = None
    ) -> tuple[Float[Array, " steps"], Float[Array, " steps"]] | None:
        """Returns (lambda, w(t) p(t) / |dlambda/dt|) at the levels `times`, or None if the loss has no weight.

        lambda is the log-SNR, and the second array is the weight of the squared error in the loss as an integral over
        lambda. p is the probability of each level, or uniform where the time sampler makes up for it. Two objectives
        ask for the same, on any two perturbations, where this function of lambda is the same. Kingma & Gao 2023,
        section 3.

        Raises:
            UserError: a function as time sampler, whose probabilities are not known, or a perturbation of one level.
        """
        t = perturbation.times
        weight = self.weight(perturbation, t)
        if weight is None:
            return None
        sampler = self._time_sampler
        p = 1 / perturbation.num_steps if sampler.reweights else sampler.probabilities(perturbation, state)
        density = jnp.asarray(p, jnp.float32) / -(perturbation.level_width * perturbation.log_snr_slope(t))
        return perturbation.log_snr(t), weight * density

    def initial_state(self, perturbation) -> Any:
        """Returns the memory before training, a pytree of arrays, or None for an objective that remembers nothing.

        The memory is given to each call as `state`, renewed by `update`, and a part of checkpoints.

        Raises:
            UserError: the time sampler is not for this perturbation.
        """
        return self._time_sampler.initial_state(perturbation)

    def update(self, state, metrics) -> Any:
        """Returns the memory after a batch, from the memory before it and the metrics of the call."""
        return self._time_sampler.update(state, metrics["t"], metrics["loss"])

    @functools.cached_property
    def _time_sampler(self):
        return time_sampler(self.time_sampler, **self.time_sampler_options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedLevels(Objective):
    """An objective with a weighting w(t) of the noise levels.

    A time sampler that re-weights, such as "importance", leaves the expected loss as it is. One that does not, such as
    "lognormal", changes the expected loss as a weighting does. `effective_weight` gives both factors together.

    Args:
        weighting: a name in `WEIGHTINGS`, "module:function", or a function of (perturbation, t).
        weighting_options: options of that weighting, such as {"variance": "small"}.
        normalize: divide the weighting by its mean over the noise levels. Two weightings are then compared by their
            shapes, and not by the learning rates that they amount to.
        time_sampler, time_sampler_options: as in `Objective`.

    Raises:
        UserError: an unknown name or option, or an option's value out of range.
    """

    weighting: str | Callable = "simple"
    weighting_options: Mapping = dataclasses.field(default_factory=dict)
    normalize: bool = False

    def __post_init__(self):
        super().__post_init__()
        _ = self._weighting  # The weighting is made here, so that mistakes show at once.

    def weight(self, perturbation: Perturbation, t: Time) -> Float[Array, "..."]:
        """Returns w(t), shaped like t."""
        weight = self._weighting(perturbation, t)
        if not self.normalize:
            return weight
        return weight / jnp.mean(self._weighting(perturbation, perturbation.times))

    @functools.cached_property
    def _weighting(self):
        return weighting(self.weighting, **self.weighting_options)
