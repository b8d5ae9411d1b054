"""A network, read through a perturbation."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import Perturbation, expand
from unified_diffusion.perturbations.base import Time
from unified_diffusion.registry import choose, lookup


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


class Reading(NamedTuple):
    """Where an output was made: x_t, its alpha and sigma, and (a, b) of the mean a x0 + b x_t one level down."""

    x_t: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    mean_x0: jax.Array
    mean_x_t: jax.Array


def from_eps(eps, at):
    """x0 = (x_t - sigma eps) / alpha. Ho et al. 2020, eq. 15."""
    return (at.x_t - at.sigma * eps) / at.alpha, eps


def from_x0(x0, at):
    """eps = (x_t - alpha x0) / sigma."""
    return x0, (at.x_t - at.alpha * x0) / at.sigma


def from_v(v, at):
    """v = alpha eps - sigma x0, solved with x_t = alpha x0 + sigma eps. Salimans & Ho 2022, section 4."""
    norm = at.alpha**2 + at.sigma**2
    return (at.alpha * at.x_t - at.sigma * v) / norm, (at.sigma * at.x_t + at.alpha * v) / norm


def from_score(score, at):
    """eps = -sigma score. Vincent 2011; Song & Ermon 2019, eq. 4."""
    return from_eps(-at.sigma * score, at)


def from_mean(mean, at):
    """mean = a x0 + b x_t, DDPM's mu-tilde of the step to the level below. Ho et al. 2020, eq. 7."""
    return from_x0((mean - at.mean_x_t * at.x_t) / at.mean_x0, at)


PREDICTIONS = {"eps": from_eps, "x0": from_x0, "v": from_v, "score": from_score, "mean": from_mean}


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """(x_t, t) -> Prediction(x0, eps, score): a network whose output is read as one prediction type.

    A pytree: passed to `jax.jit`, its network's parameters are traced, so that new values compile nothing anew.

    Args:
        network: a callable (x, noise_label, label=None, *, rngs=None) -> array shaped like x. Fractional labels are
            rounded for a network whose attribute `integer_labels` is true (an index embedding).
        perturbation: the process whose x_t and t are given.
        prediction: what the network puts out: "eps", "x0", "v", "score" or "mean".
        scale_input: show the network x_t / sqrt(alpha² + sigma²), which for DDPM is x_t itself; on NCSN's wide range of
            noise scales it keeps the input near unit variance, and so makes the network see just what DDPM's sees.
        variance: "fixed", or "learned": the network puts out twice the channels, and the second half v is read as the
            reverse step's log variance, (1 + v) / 2 of the way from the small choice's to the large one's. Nichol &
            Dhariwal 2021, eq. 15.
        native: the process that the network was trained on, where it is not `perturbation`; see `under`.
        label: class labels `[B]` for calls that give none; see `given`.
        dropout_key: a key turns dropout on, one mask a key; None is evaluation.

    Raises:
        UserError: an unknown prediction or variance; when called, a network without the channels of a learned variance.
    """

    network: Callable
    perturbation: Perturbation
    prediction: str = "eps"
    scale_input: bool = False
    variance: str = "fixed"
    native: Perturbation | None = None
    label: Int[Array, " b"] | None = None
    dropout_key: PRNGKeyArray | None = None

    def __post_init__(self):
        lookup(PREDICTIONS, self.prediction, "prediction")
        choose(self.variance, ("fixed", "learned"), "variance")

    def __call__(
        self,
        x_t: Float[Array | np.ndarray, " b *d"],
        t: Time,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    ) -> Prediction:
        """What the network makes of `x_t` `[B, ...]` at level `t` above 0, one number or one per example `[B]`."""
        x_t = jnp.asarray(x_t)
        t = (jnp if isinstance(t, jax.Array) else np).broadcast_to(t, x_t.shape[:1])
        label = self.label if label is None else label
        at, noise_label, outside = self._reading(x_t, t)
        output, fraction = self._split(self._apply(at, noise_label, label), x_t)
        levels = (expand(level, x_t) for level in at[1:])
        x0, eps = lookup(PREDICTIONS, self.prediction, "prediction")(output, Reading(at.x_t, *levels))
        if outside is not None:
            # Beyond the ladder's ends x0 is what holds: a bounded picture, whatever the noise.
            alpha, sigma = (expand(level, x_t) for level in (self.perturbation.alpha(t), self.perturbation.sigma(t)))
            _, outer_eps = from_x0(x0, Reading(x_t, alpha, sigma, None, None))
            eps = jnp.where(expand(outside, x_t), outer_eps, eps)
        score = -eps / expand(self.perturbation.sigma(t), x_t)
        return Prediction(x0, eps, score, self._log_variance(fraction, t), fraction)

    def output(
        self,
        x_t: Float[Array | np.ndarray, " b *d"],
        t: Time,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    ) -> Float[Array, "b ..."]:
        """What the network puts out for x_t at level t, unread: of a classifier the logits `[B, classes]`."""
        x_t = jnp.asarray(x_t)
        t = (jnp if isinstance(t, jax.Array) else np).broadcast_to(t, x_t.shape[:1])
        at, noise_label, _ = self._reading(x_t, t)
        return self._apply(at, noise_label, self.label if label is None else label)

    @property
    def no_label(self):
        """The label that stands for none, `num_classes`: the classes' own are 0 … num_classes - 1.

        Raises:
            UserError: a network that has no attribute `num_classes`, or takes no labels.
        """
        if not getattr(self.network, "num_classes", 0):
            raise UserError(
                "this network does not say how many classes it is given: build it with num_classes > 0; one of your "
                "own has an attribute num_classes, and reads the label num_classes as none"
            )
        return self.network.num_classes

    def under(self, perturbation):
        """The same network read on another noise ladder: each level is matched by its log-SNR.

        Between two levels of its own ladder the network gets a fractional label, interpolated in log-SNR. Beyond the
        ends it gets the nearest label, and x_t scaled so that neither signal nor noise is larger than it has seen.
        """
        native = self.perturbation if self.native is None else self.native
        return dataclasses.replace(self, perturbation=perturbation, native=None if native == perturbation else native)

    def given(self, label):
        """The same denoiser for these class labels `[B]`."""
        return dataclasses.replace(self, label=label)

    def _reading(self, x_t, t):
        """Where the network reads x_t, on its own ladder: (a `Reading`, the noise label, whether it is beyond an end).

        The last is None where the network is read on the ladder that it was trained on.
        """
        outer, native = self.perturbation, self.native
        if native is None:
            at = Reading(x_t, outer.alpha(t), outer.sigma(t), *outer.posterior_coefficients(outer.below(t), t))
            return at, outer.noise_label(t), None
        log_snr = outer.log_snr(t)
        time = native.time_of(log_snr)
        if self.prediction == "mean":
            time = native.nearest(time)
        nearest = jnp.clip(log_snr, native.log_snr(native.times[-1]), native.log_snr(native.times[0]))
        alpha, sigma = native.scales(nearest)
        scale = jnp.minimum(alpha / outer.alpha(t), sigma / outer.sigma(t))
        step = native.nearest(time)
        at = Reading(expand(scale, x_t) * x_t, alpha, sigma, *native.posterior_coefficients(native.below(step), step))
        return at, native.noise_label(time), nearest != log_snr

    def _apply(self, at, noise_label, label):
        rngs = None if self.dropout_key is None else nnx.Rngs(dropout=self.dropout_key)
        x = at.x_t / expand(jnp.hypot(at.alpha, at.sigma), at.x_t) if self.scale_input else at.x_t
        noise_label = jnp.asarray(noise_label)
        if getattr(self.network, "integer_labels", False):
            noise_label = jnp.maximum(jnp.rint(noise_label), 0).astype(jnp.int32)
        return self.network(x, noise_label, label, rngs=rngs)

    def _split(self, output, x):
        """(what is predicted, the variance's fraction or None), each shaped like `x`."""
        if self.variance == "fixed":
            return output, None
        if output.shape[-1] != 2 * x.shape[-1]:
            raise UserError(
                f"denoiser.variance = learned takes a network of {2 * x.shape[-1]} output channels, twice the data's, "
                f"and this one has {output.shape[-1]}: build it with out_channels={2 * x.shape[-1]}"
            )
        output, v = jnp.split(output, 2, axis=-1)
        return output, (1 + v) / 2

    def _log_variance(self, fraction, t):
        """fraction log(large) + (1 - fraction) log(small), of the step one level down the outer ladder."""
        if fraction is None:
            return None
        small, large = (
            expand(jnp.log(self.perturbation.reverse_variance(self.perturbation.below(t), t, choice)), fraction)
            for choice in ("small", "large")
        )
        return small + fraction * (large - small)


def _flatten(denoiser):
    """A network with parameters is traced by them; any other callable is part of the program."""
    values = dict(vars(denoiser))
    dynamic = [values.pop(name) for name in ("label", "dropout_key")]
    network = values.pop("network")
    traced = not jax.tree_util.all_leaves([network])
    return (network if traced else None, *dynamic), (None if traced else network, tuple(values.items()))


def _unflatten(static, dynamic):
    program, values = static
    network, label, dropout_key = dynamic
    denoiser = object.__new__(Denoiser)  # not by calling it: a pytree's leaves may be anything, such as shapes
    network = network if program is None else program
    vars(denoiser).update(values, network=network, label=label, dropout_key=dropout_key)
    return denoiser


jax.tree_util.register_pytree_node(Denoiser, _flatten, _unflatten)
