"""A network, read through a perturbation."""

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
    """What a denoiser knows of x_t, each shaped like x_t.

    x0 = E[x_0 | x_t]; eps = (x_t - alpha x0) / sigma; score = -eps / sigma, the gradient of log q(x_t) with respect to
    x_t. Where the network predicts the reverse step's variance, log_variance is its logarithm for the step from t to
    the level below, and variance_fraction how far that lies from the smallest choice (0) to the largest (1), from which
    a longer step's follows (`reverse.reverse_log_variance`); otherwise both are None.
    """

    x0: Float[Array, " b *d"]
    eps: Float[Array, " b *d"]
    score: Float[Array, " b *d"]
    log_variance: Float[Array, " b *d"] | None = None
    variance_fraction: Float[Array, " b *d"] | None = None


@dataclasses.dataclass(frozen=True, init=False)
class Denoiser:
    """(x_t, t) -> Prediction(x0, eps, score): a network whose output is read in one parameterization.

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
        *,
        native: Perturbation | None = None,
        condition: Value = None,
        dropout_key: Any = None,
        prediction: Parameterization | str | None = None,
        scale_input: bool | None = None,
        variance: str | None = None,
        label: Value = None,
    ):
        options = {"scale_input": scale_input, "variance": variance}
        values = {
            "network": network,
            "perturbation": perturbation,
            "parameterization": _resolved(parameterization if prediction is None else prediction, options),
            "native": native,
            "condition": label if condition is None else condition,
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
            # Beyond the ends of the native levels x0 is what holds: a bounded picture, whatever the noise.
            eps = jnp.where(expand(outside, x_t), (x_t - own.alpha * x0) / own.sigma, eps)
        return Prediction(x0, eps, -eps / own.sigma, self._log_variance(fraction, t), fraction)

    def output(
        self, x_t: Float[Array | np.ndarray, " b *d"], t: Time, condition: Value = None
    ) -> Float[Array, "b ..."]:
        """The output of the network for x_t at level t, unread: of a classifier the logits `[B, classes]`."""
        x_t = jnp.asarray(x_t)
        t = self._times(t, len(x_t))
        x, level, _ = self._native_level(x_t, t)
        return self._apply(x, level, condition)

    def under(self, perturbation: Perturbation) -> "Denoiser":
        """The same network read on another process: each level is matched by its log-SNR.

        Between two levels of its native chain the network gets a fractional noise label, interpolated in log-SNR.
        Beyond the ends it gets the nearest label, and x_t scaled so that neither signal nor noise is larger than it has
        seen.
        """
        native = self.perturbation if self.native is None else self.native
        return dataclasses.replace(self, perturbation=perturbation, native=None if native == perturbation else native)

    def given(self, condition: Value) -> "Denoiser":
        """The same denoiser for this value of its condition, such as class labels `[B]`; None for none.

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
        """The class label that stands for none, `num_classes`.

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
        """t as one per example `[B]`.

        Raises:
            IndexError: t is known to be 0, where data are clean and there is no noise to predict.
        """
        if not isinstance(t, jax.Array) and np.any(np.asarray(t) == 0):
            raise IndexError(f"t = {t}: data at t = 0 are clean, so a denoiser reads x_t at a level above it")
        return (jnp if isinstance(t, jax.Array) else np).broadcast_to(t, (batch_size,))

    def _native_level(self, x_t, t):
        """Where the network reads x_t, on its native process: (x_t there, its `Level`, whether it is beyond an end).

        The last is None where the network is read on the process that it was trained on.
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
        """The output of the network at x_t, told `condition`, or else the denoiser's own."""
        x, noise_label = self.parameterization.inputs(x_t, level)
        condition = self.condition if condition is None else condition
        if condition is not None:
            condition = self.told.check(condition, len(x))
        if getattr(self.network, "integer_labels", False):  # any callable may be a network
            noise_label = jnp.maximum(jnp.rint(noise_label), 0).astype(jnp.int32)
        rngs = None if self.dropout_key is None else nnx.Rngs(dropout=self.dropout_key)
        return self.network(x, noise_label, condition, rngs=rngs)

    def _log_variance(self, fraction, t):
        """fraction log(large) + (1 - fraction) log(small), of the step one level down."""
        if fraction is None:
            return None
        small, large = (
            expand(jnp.log(self.perturbation.reverse_variance(self.perturbation.below(t), t, choice)), fraction)
            for choice in ("small", "large")
        )
        return small + fraction * (large - small)


def _resolved(given, options):
    """The parameterization that is given itself or by its name, with those of the options that are not None."""
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(given, Parameterization):
        return dataclasses.replace(given, **options)
    return parameterization(given, **options)


def _flatten(denoiser):
    """A network with parameters is traced by them; any other callable is part of the program."""
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
