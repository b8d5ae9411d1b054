"""The denoiser: a network whose output is read through a perturbation."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from unified_diffusion.conditions import Condition, Value, condition_of
from unified_diffusion.parameterizations import Parameterization, parameterization
from unified_diffusion.perturbations import Level, Perturbation, expand
from unified_diffusion.perturbations.base import Time


class Prediction(NamedTuple):
    """The prediction of a denoiser for x_t at level t; every field is shaped like x_t.

    Attributes:
        x0: the predicted data, E[x_0 | x_t].
        eps: the predicted noise, (x_t - alpha x0) / sigma.
        score: the gradient of log q(x_t) with respect to x_t, -eps / sigma.
        log_variance: the log variance of the reverse step from t to the level below; None where the network does not
            predict variances.
        variance_fraction: where this log variance lies between the smallest choice (0) and the largest (1), from which
            the variance of a longer step follows (`reverse.reverse_log_variance`); None as above.
    """

    x0: Float[Array, " b *d"]
    eps: Float[Array, " b *d"]
    score: Float[Array, " b *d"]
    log_variance: Float[Array, " b *d"] | None = None
    variance_fraction: Float[Array, " b *d"] | None = None


@dataclasses.dataclass(frozen=True, init=False)
class Denoiser:
    """A network whose output is read in one parameterization: (x_t, t) -> Prediction(x0, eps, score).

        denoiser = Denoiser(network, DDPM(), "v")
        x0, eps, score, *_ = denoiser(x_t, t)

    A denoiser is a pytree: passed to `jax.jit`, the parameters of its network are traced, so that new values compile
    nothing anew.

    Args:
        network: a callable (x, noise_label, condition=None, *, rngs=None) -> array shaped like x. Fractional noise
            labels are rounded for a network whose attribute `integer_labels` is true (an index embedding). For the
            attributes that tell its condition, see `conditions.condition_of`.
        perturbation: the process whose x_t and t are given.
        parameterization: a `Parameterization`, or the name of one: "eps", "x0", "v", "score" or "mean".
        native: the process that the network was trained on, where it is not `perturbation`; see `under`.
        condition: the value of the condition for calls that give none, such as class labels `[B]`; see `given`.
        dropout_key: a key turns dropout on, one mask a key; None is evaluation.
        prediction, scale_input, variance: another way to give the parameterization, by its name and its options.
        label: another name of `condition`.

    Raises:
        UserError: an unknown parameterization or variance; when called, a network without the channels of a learned
            variance, or a condition that is known to be wrong.
    """

    network: Callable
    perturbation: Perturbation
    parameterization: Parameterization
    native: Perturbation | None = None
    condition: Value = None
    dropout_key: Any = None

    def __init__(
        self,
        network: Callable,
        perturbation: Perturbation,
        parameterization: Parameterization | str = "eps",
        scale_input: bool | None = None,
        variance: str | None = None,
        native: Perturbation | None = None,
        label: Value = None,
        dropout_key: Any = None,
        *,
        condition: Value = None,
        prediction: Parameterization | str | None = None,
    ):
        options = {"scale_input": scale_input, "variance": variance}
        values = {
            "network": network,
            "perturbation": perturbation,
            "parameterization": _resolved(parameterization if prediction is None else prediction, options),
            "native": native,
            "condition": condition if label is None else label,
            "dropout_key": dropout_key,
        }
        vars(self).update(values)

    def __call__(
        self,
        x_t: Float[Array | np.ndarray, " b *d"],
        t: Time,
        condition: Value = None,
        *,
        label: Value = None,
    ) -> Prediction:
        """Reads the network at `x_t` `[B, ...]` and level `t` above 0, one number or one per example `[B]`.

        Args:
            condition: the value that the network is told, such as class labels `[B]`; None takes that of the denoiser.
            label: another name of `condition`.
        """
        x_t = jnp.asarray(x_t)
        t = self._times(t, len(x_t))
        x, level, outside = self._native_level(x_t, t)
        output = self._apply(x, level, label if condition is None else condition)
        output, fraction = self.parameterization.split(output, x_t)
        x0, eps = self.parameterization.read(output, x, level.beside(x_t))
        own = self.perturbation.at(t).beside(x_t)
        if outside is not None:
            # Beyond the ends of the native levels x0 is kept, since a picture stays bounded; eps follows from it.
            eps = jnp.where(expand(outside, x_t), (x_t - own.alpha * x0) / own.sigma, eps)
        return Prediction(x0, eps, -eps / own.sigma, self._log_variance(fraction, t), fraction)

    def output(
        self, x_t: Float[Array | np.ndarray, " b *d"], t: Time, condition: Value = None
    ) -> Float[Array, "b ..."]:
        """The output of the network for x_t at level t, before it is read; a classifier gives logits `[B, classes]`."""
        x_t = jnp.asarray(x_t)
        t = self._times(t, len(x_t))
        x, level, _ = self._native_level(x_t, t)
        return self._apply(x, level, condition)

    def under(self, perturbation: Perturbation) -> "Denoiser":
        """A denoiser with this network, read on another process: each level is matched by its log-SNR.

            denoiser = Denoiser(network, DDPM()).under(DDPM().continuous)

        Between two levels of its native chain the network gets a fractional noise label, interpolated in log-SNR.
        Beyond the ends of the chain the network gets the nearest label, and x_t is scaled so that neither the signal
        nor the noise in it is larger than in training.
        """
        native = self.perturbation if self.native is None else self.native
        return dataclasses.replace(self, perturbation=perturbation, native=None if native == perturbation else native)

    def given(self, condition: Value) -> "Denoiser":
        """This denoiser with another value of its condition, such as class labels `[B]`; None takes the value away.

        Raises:
            UserError: a value that is known to be wrong.
        """
        if condition is not None:
            first = jax.tree.leaves(condition)[0]
            condition = self.told.check(condition, len(first) if np.ndim(first) else 1)
            condition = jax.tree.map(jnp.asarray, condition)
        return dataclasses.replace(self, condition=condition)

    @property
    def told(self) -> Condition:
        """The kind of condition that the network is told."""
        return condition_of(self.network)

    @property
    def no_label(self) -> int:
        """The class label that means "no class": the number `num_classes`.

        Raises:
            UserError: a network that takes no labels.
        """
        with jax.ensure_compile_time_eval():
            return int(self.told.null(np.int32(0)))

    @property
    def label(self) -> Value:
        """Another name of `condition`."""
        return self.condition

    @property
    def prediction(self) -> str:
        """The name of the parameterization."""
        return self.parameterization.name

    @property
    def scale_input(self) -> bool:
        """Whether the network is shown x_t / sqrt(alpha² + sigma²)."""
        return self.parameterization.scale_input

    @property
    def variance(self) -> str:
        """The variance of the reverse step: "fixed", or "learned" by the network."""
        return self.parameterization.variance

    def _times(self, t, batch_size):
        """The times as an array `[B]`, one time per example.

        Raises:
            IndexError: t is known to be 0, where data are clean and there is no noise to predict.
        """
        if not isinstance(t, jax.Array) and np.any(np.asarray(t) == 0):
            raise IndexError(f"t = {t}: data at t = 0 are clean, so a denoiser reads x_t at a level above it")
        return (jnp if isinstance(t, jax.Array) else np).broadcast_to(t, (batch_size,))

    def _native_level(self, x_t, t):
        """The input of the network on its native process: (x_t there, its `Level`, whether t is beyond an end).

        The third value is None where the network is read on the process that it was trained on.
        """
        outer, native, reads = self.perturbation, self.native, self.parameterization
        if native is None:
            return x_t, reads.level(outer, t), None
        there = outer.at(t)
        time = native.time_of(there.log_snr)
        level = reads.level(native, native.nearest(time))
        number = native.noise_label(time) if reads.between_levels else level.number
        nearest = jnp.clip(there.log_snr, native.log_snr(native.times[-1]), native.log_snr(native.times[0]))
        alpha, sigma = native.scales(nearest)
        scale = jnp.minimum(alpha / there.alpha, sigma / there.sigma)
        level = Level(time, alpha, sigma, nearest, number, level.step)
        return expand(scale, x_t) * x_t, level, nearest != there.log_snr

    def _apply(self, x_t, level, condition):
        """The output of the network at x_t for `condition`; None takes the condition of the denoiser."""
        x, noise_label = self.parameterization.inputs(x_t, level)
        condition = self.condition if condition is None else condition
        if condition is not None:
            condition = self.told.check(condition, len(x))
        if getattr(self.network, "integer_labels", False):  # any callable may be a network
            noise_label = jnp.maximum(jnp.rint(noise_label), 0).astype(jnp.int32)
        rngs = None if self.dropout_key is None else nnx.Rngs(dropout=self.dropout_key)
        return self.network(x, noise_label, condition, rngs=rngs)

    def _log_variance(self, fraction, t):
        """The log variance of the step to the level below, fraction log(large) + (1 - fraction) log(small), or None."""
        if fraction is None:
            return None
        small, large = (
            expand(jnp.log(self.perturbation.reverse_variance(self.perturbation.below(t), t, choice)), fraction)
            for choice in ("small", "large")
        )
        return small + fraction * (large - small)


def _resolved(given, options):
    """The `Parameterization` that `given` is or names, with the options that are not None."""
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(given, Parameterization):
        return dataclasses.replace(given, **options)
    return parameterization(given, **options)


def _flatten(denoiser):
    """The leaves and the static part of a denoiser as a pytree.

    The parameters of a network are leaves, so that JAX traces them; a network without parameters is static.
    """
    values = dict(vars(denoiser))
    dynamic = [values.pop(name) for name in ("condition", "dropout_key")]
    network = values.pop("network")
    traced = not jax.tree_util.all_leaves([network])
    return (network if traced else None, *dynamic), (None if traced else network, tuple(values.items()))


def _unflatten(static, dynamic):
    program, values = static
    network, condition, dropout_key = dynamic
    denoiser = object.__new__(Denoiser)  # not by calling it: a pytree's leaves may be anything, such as shapes
    network = network if program is None else program
    vars(denoiser).update(values, network=network, condition=condition, dropout_key=dropout_key)
    return denoiser


jax.tree_util.register_pytree_node(Denoiser, _flatten, _unflatten)
