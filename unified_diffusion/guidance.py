"""Guidance: denoisers that pull samples towards a condition, such as a class.

A guided denoiser is called as a `Denoiser` is, so any sampler runs on it. A guided denoiser is for sampling alone: its
prediction is no posterior mean, so there is no bound and no likelihood.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand


@dataclasses.dataclass(frozen=True, eq=False)
class Wrapper:
    """A denoiser around another denoiser: the base class, whose properties are those of the inner denoiser.

    Args:
        denoiser: the inner `Denoiser` or `Wrapper`.
    """

    # The fields here and below are typed as Any, since JAX rebuilds pytrees with placeholders in place of arrays.
    denoiser: Any

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
        """The network of the inner denoiser."""
        return self.denoiser.network

    @property
    def parameterization(self):
        """The parameterization in which the output of the network is read."""
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
        """The class label that means "no class"."""
        return self.denoiser.no_label

    def under(self, perturbation):
        """This denoiser read on another process, with levels matched by log-SNR; see `Denoiser.under`."""
        return dataclasses.replace(self, denoiser=self.denoiser.under(perturbation))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Guided(Wrapper):
    """Classifier-free guidance: eps = eps(x_t) + scale (eps(x_t, c) - eps(x_t)), with c the condition, such as a class.

        guided = Guided(denoiser, scale=3.0)
        images = DDIM(num_steps=50)(guided, jax.random.key(0), (16, 32, 32, 3), label=labels)

    Both predictions come from one call of the network on twice the batch. Scale 0 is the unconditional prediction,
    scale 1 the conditional one, and a larger scale goes beyond it; the w of Ho & Salimans 2022, eq. 6, is scale - 1. A
    learned variance is that of the conditional prediction. A guided denoiser is a pytree, so a new scale compiles
    nothing anew.

    Args:
        denoiser: the denoiser of a network that was trained with labels, some of them dropped
            (`training.label_dropout`).
        scale: how strong the guidance is, a number.
        interval: the two ends (low, high) of sigma / alpha between which the guidance acts, low < sigma / alpha <=
            high. Elsewhere the prediction is the conditional one; where t is one number, no other is computed. None
            guides at every level. sigma / alpha is the sigma of Kynkäänniemi et al. 2024, eq. 6, for data in [-1, 1].

    Raises:
        UserError: an interval that holds nothing; when called, no label, or a network without classes.
    """

    scale: Any = 1.0
    interval: tuple[float, ...] | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        if self.interval is not None and not (len(self.interval) == 2 and 0 <= self.interval[0] < self.interval[1]):
            raise UserError(f"interval = {self.interval}: it is (low, high) of sigma / alpha, 0 <= low < high")

    @property
    def condition(self):
        """The value of the condition for calls that give none."""
        return self.denoiser.condition

    @property
    def label(self):
        """Another name of `condition`."""
        return self.condition

    def given(self, condition):
        """This denoiser with another value of its condition, such as class labels `[B]`."""
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
        """The predictions (conditional, unconditional), from one call of the network.

        Example i stands in rows 2 i and 2 i + 1, so that both rows lie on one device.
        """
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
        # x0 and the score are affine in eps, so all three are mixed alike.
        pairs = zip(conditional[:3], unconditional[:3], strict=True)
        x0, eps, score = (without + self.scale * (given - without) for given, without in pairs)
        return conditional._replace(x0=x0, eps=eps, score=score)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierGuided(Wrapper):
    """Classifier guidance: score + scale ∇ log p(label | x_t), with a classifier of noisy data.

        guided = ClassifierGuided(denoiser, classifier, scale=2.0)
        images = DDIM(num_steps=50)(guided, jax.random.key(0), (16, 32, 32, 3), label=labels)

    Dhariwal & Nichol 2021, section 4. The predicted noise becomes eps - scale sigma ∇ log p(label | x_t), as in their
    algorithm 2, and the step of every sampler follows from it; scale 1 is Bayes' rule. Each call also costs one
    gradient of the classifier. A guided denoiser is a pytree, so a new scale or new parameters compile nothing anew.

    Args:
        denoiser: the denoiser of a network with classes or without.
        classifier: a `Denoiser` whose network puts out logits `[B, classes]`, trained by the objective
            "classification" on any perturbation; it is read under that of the denoiser, with levels matched by log-SNR.
        scale: the factor of the gradient, a number.
        label: class labels `[B]` for calls that give none.
        conditional: whether the denoiser is given the labels, too.

    Raises:
        UserError: when called, no label.
    """

    classifier: Any
    scale: Any = 1.0
    label: Any = None
    conditional: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def condition(self):
        """The class labels for calls that give none."""
        return self.label

    def given(self, condition):
        """This denoiser with other class labels `[B]`."""
        return dataclasses.replace(self, label=condition)

    def __call__(self, x_t, t, condition=None, *, label=None):
        """The guided `Prediction` for x_t `[B, ...]` at level t, one number or one per example `[B]`."""
        x_t = jnp.asarray(x_t)
        label = _needed(self.label, condition, label, self.classifier.told, len(x_t))
        prediction = self.denoiser(x_t, t, label if self.conditional else None)
        gradient = self.scale * self.log_prob_gradient(x_t, t, label)
        alpha, sigma = (expand(level, x_t) for level in (self.perturbation.alpha(t), self.perturbation.sigma(t)))
        return prediction._replace(
            x0=prediction.x0 + sigma**2 / alpha * gradient,
            eps=prediction.eps - sigma * gradient,
            score=prediction.score + gradient,
        )

    def log_prob_gradient(self, x_t, t, label):
        """The gradient ∇ log p(label | x_t) with respect to x_t, shaped like x_t."""
        classifier = self.classifier.under(self.perturbation)

        def log_prob(x):
            log_probs = jax.nn.log_softmax(classifier.output(x, t))
            return jnp.sum(jnp.take_along_axis(log_probs, label[:, None], axis=1))

        return jax.grad(log_prob)(x_t)


def num_evaluations(sampler, denoiser):
    """The number of network evaluations per sample of a sampler on a denoiser, guided or not.

        num_evaluations(DDIM(num_steps=50), Guided(denoiser, 3.0))  # 100

    An evaluation of a doubled batch counts twice. The gradients of a classifier do not count here; there are
    `sampler.num_evaluations(perturbation)` of them. Where an interval decides which evaluations are doubled, the
    sampler is run once on a network that only counts.
    """
    if isinstance(denoiser, ClassifierGuided):
        return num_evaluations(sampler, denoiser.denoiser)
    if not isinstance(denoiser, Guided):
        return sampler.num_evaluations(denoiser.perturbation)
    # An adaptive sampler has every sample at a level of its own, and then every evaluation is doubled.
    if denoiser.interval is None or sampler.adaptive:
        return 2 * num_evaluations(sampler, denoiser.denoiser)
    return _counted(sampler, denoiser.perturbation, denoiser.variance, denoiser.interval)


def _counted(sampler, perturbation, variance, interval):
    """How many examples the network is given for one sample, counted by sampling from a network that costs nothing."""
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
    """The checked condition of a call: `condition` or `label` of the call, or else `own`, that of the denoiser.

    Raises:
        UserError: none of the three is given, or `told` knows the value to be wrong.
    """
    found = next((value for value in (condition, label, own) if value is not None), None)
    if found is None:
        raise UserError("guidance needs a class for each example: give the sampler label=…, or the denoiser .given(…)")
    return jax.tree.map(jnp.asarray, told.check(found, batch_size))
