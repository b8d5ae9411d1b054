"""Guidance: denoisers that pull samples towards a condition, such as a class.

A guided denoiser is called as a `Denoiser` is, so any sampler runs on it. It is for sampling alone: its prediction is
no posterior mean, so it has no bound and no likelihood.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand


class Wrapper:
    """The properties that a denoiser around another one, its field `denoiser`, takes from that one."""

    @property
    def perturbation(self):
        """The process whose x_t and t are given."""
        return self.denoiser.perturbation

    @property
    def native(self):
        """The process that the network was trained on, where it is not `perturbation`."""
        return self.denoiser.native

    @property
    def network(self):
        """The network inside."""
        return self.denoiser.network

    @property
    def parameterization(self):
        """The reading of the output of that network."""
        return self.denoiser.parameterization

    @property
    def prediction(self):
        """The name of the parameterization."""
        return self.denoiser.prediction

    @property
    def variance(self):
        """The variance of the reverse step, "fixed" or "learned"."""
        return self.denoiser.variance

    @property
    def told(self):
        """The kind of condition that the network is told."""
        return self.denoiser.told

    @property
    def no_label(self):
        """The class label that stands for none."""
        return self.denoiser.no_label

    def under(self, perturbation):
        """The same denoiser on another process, matched by log-SNR, as `Denoiser.under`."""
        return dataclasses.replace(self, denoiser=self.denoiser.under(perturbation))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Guided(Wrapper):
    """Classifier-free guidance: eps = eps(x_t) + scale (eps(x_t, c) - eps(x_t)), c the condition, such as a class.

    Ho & Salimans 2022, eq. 6.

    Both predictions come from one call of the network on twice the batch. Scale 0 is the unconditional prediction, 1
    the conditional one, and more goes beyond it; the paper's w is scale - 1. A learned variance is the conditional one.

    A pytree: a new scale compiles nothing anew.

    Args:
        denoiser: of a network that was trained with labels, some of them dropped (`training.label_dropout`).
        scale: how strong the guidance is, a number.
        interval: (low, high) of sigma / alpha: outside of low < sigma / alpha <= high the conditional prediction alone
            counts, and where t is one number it alone is computed. None guides at every level. Kynkäänniemi et al.
            2024, eq. 6, whose sigma this is, for data in [-1, 1].

    Raises:
        UserError: an interval that holds nothing; when called, no label, or a network without classes.
    """

    # Any array, since JAX rebuilds pytrees with placeholders for them.
    denoiser: Any
    scale: Any = 1.0
    interval: tuple[float, float] | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        if self.interval is not None and not (len(self.interval) == 2 and 0 <= self.interval[0] < self.interval[1]):
            raise UserError(f"interval = {self.interval}: it is (low, high) of sigma / alpha, 0 <= low < high")

    @property
    def condition(self):
        """The value of the condition for calls that give none."""
        return self.denoiser.condition

    def given(self, condition):
        """The same denoiser for this value of its condition, such as class labels `[B]`."""
        return dataclasses.replace(self, denoiser=self.denoiser.given(condition))

    def __call__(self, x_t, t, condition=None, *, label=None):
        """The guided `Prediction` for x_t `[B, ...]` at level t, one number or one per example `[B]`."""
        x_t = jnp.asarray(x_t)
        condition = _needed(self.condition, condition, label, self.told, len(x_t))
        if self.interval is None:
            return self._mix(*self._both(x_t, t, condition))
        level = jnp.exp(-self.perturbation.log_snr(t) / 2)
        inside = (self.interval[0] < level) & (level <= self.interval[1])
        if inside.ndim == 0:
            return jax.lax.cond(
                inside, lambda: self._mix(*self._both(x_t, t, condition)), lambda: self.denoiser(x_t, t, condition)
            )
        conditional, unconditional = self._both(x_t, t, condition)
        mixed = self._mix(conditional, unconditional)
        return jax.tree.map(lambda a, b: jnp.where(expand(inside, x_t), a, b), mixed, conditional)

    def _both(self, x_t, t, condition):
        """(conditional, unconditional) of one call: example i is rows 2 i and 2 i + 1, and so on one device."""
        if np.ndim(t):
            t = (jnp if isinstance(t, jax.Array) else np).repeat(t, 2)
        pairs = jax.tree.map(
            lambda given, null: jnp.stack([given, null], axis=1).reshape(-1, *given.shape[1:]),
            condition,
            self.told.null(condition),
        )
        both = self.denoiser(jnp.repeat(x_t, 2, axis=0), t, pairs)
        pairs = jax.tree.map(lambda rows: rows.reshape(-1, 2, *rows.shape[1:]), both)
        return tuple(jax.tree.map(lambda rows, i=i: rows[:, i], pairs) for i in (0, 1))

    def _mix(self, conditional, unconditional):
        # x0 and the score are affine in eps, so the same mixture of each.
        pairs = zip(conditional[:3], unconditional[:3], strict=True)
        x0, eps, score = (without + self.scale * (given - without) for given, without in pairs)
        return conditional._replace(x0=x0, eps=eps, score=score)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierGuided(Wrapper):
    """Classifier guidance: score + scale ∇ log p(label | x_t), with a classifier of noisy data.

    Dhariwal & Nichol 2021, section 4. In eps it is eps - scale sigma ∇ log p(label | x_t), their algorithm 2, from
    which the step of every sampler follows; scale 1 is Bayes' rule. A call costs a gradient of the classifier, too.

    A pytree: a new scale, or new parameters, compile nothing anew.

    Args:
        denoiser: of a network with classes or without.
        classifier: a `Denoiser` whose network puts out logits `[B, classes]`, trained by the objective
            "classification" on any perturbation: it is read under the denoiser's, matched by log-SNR.
        scale: of the gradient, a number.
        label: class labels `[B]` for calls that give none.
        conditional: give the labels to the denoiser, too.

    Raises:
        UserError: when called, no label.
    """

    # Any array, since JAX rebuilds pytrees with placeholders for them.
    denoiser: Any
    classifier: Any
    scale: Any = 1.0
    label: Any = None
    conditional: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def condition(self):
        """The class labels for calls that give none."""
        return self.label

    def given(self, condition):
        """The same denoiser for these class labels `[B]`."""
        return dataclasses.replace(self, label=condition)

    def __call__(self, x_t, t, condition=None, *, label=None):
        """The guided `Prediction` for x_t `[B, ...]` at level t, one number or one per example `[B]`."""
        x_t = jnp.asarray(x_t)
        label = _needed(self.label, condition, label, self.told, len(x_t))
        prediction = self.denoiser(x_t, t, label if self.conditional else None)
        gradient = self.scale * self.log_prob_gradient(x_t, t, label)
        alpha, sigma = (expand(level, x_t) for level in (self.perturbation.alpha(t), self.perturbation.sigma(t)))
        return prediction._replace(
            x0=prediction.x0 + sigma**2 / alpha * gradient,
            eps=prediction.eps - sigma * gradient,
            score=prediction.score + gradient,
        )

    def log_prob_gradient(self, x_t, t, label):
        """∇ log p(label | x_t) with respect to x_t, shaped like it."""
        classifier = self.classifier.under(self.perturbation)

        def log_prob(x):
            log_probs = jax.nn.log_softmax(classifier.output(x, t))
            return jnp.sum(jnp.take_along_axis(log_probs, label[:, None], axis=1))

        return jax.grad(log_prob)(x_t)


def num_evaluations(sampler, denoiser):
    """Network evaluations per sample on a denoiser, guided or not: one of a doubled batch counts twice.

    The classifier's gradients do not count here: there are `sampler.num_evaluations(perturbation)` of them. Where an
    interval decides which evaluations are doubled, a network that counts them is sampled from.
    """
    if isinstance(denoiser, ClassifierGuided):
        return num_evaluations(sampler, denoiser.denoiser)
    if not isinstance(denoiser, Guided):
        return sampler.num_evaluations(denoiser.perturbation)
    if denoiser.interval is None or sampler.adaptive:  # whose samples are at levels of their own, and all doubled
        return 2 * num_evaluations(sampler, denoiser.denoiser)
    return _counted(sampler, denoiser.perturbation, denoiser.variance, denoiser.interval)


def _counted(sampler, perturbation, variance, interval):
    """The examples that a network of no cost is given, for one sample."""
    sizes = []

    def network(x, noise_label, label=None, *, rngs=None):
        jax.debug.callback(lambda: sizes.append(len(x)))
        return jnp.zeros((*x.shape[:-1], (2 if variance == "learned" else 1) * x.shape[-1]))

    network.num_classes = 1
    guided = Guided(Denoiser(network, perturbation, variance=variance), 1.0, interval)
    jax.block_until_ready(sampler(guided, jax.random.key(0), (1, 1), np.zeros(1, np.int32)))
    jax.effects_barrier()
    return sum(sizes)


def _needed(own, condition, label, told, batch_size):
    """The condition of a call, checked: the call's own under either name, or else the denoiser's `own`.

    Raises:
        UserError: none of the three is given.
    """
    found = next((value for value in (condition, label, own) if value is not None), None)
    if found is None:
        raise UserError("guidance needs a class for each example: give the sampler label=…, or the denoiser .given(…)")
    return jax.tree.map(jnp.asarray, told.check(found, batch_size))
