"""The accuracy of a classifier of noisy data at each noise level."""

import functools

import jax
import jax.numpy as jnp
import optax

from unified_diffusion.evaluation.levels import noise_of, over_levels


def accuracy_per_level(classifier, dataset, times, *, batch_size=250, num_examples=0, seed=0, codec=None):
    """The pair (right, cross-entropy in nats) of each example at each of `times`, float64 `[examples, len(times)]`.

        right, loss = accuracy_per_level(classifier, dataset, [1, 100, 500])
        right.mean(axis=0)  # the accuracy at each level

    `right` is 1 where the likeliest class is the label, and else 0. The noise is that of `error_per_level`.

    Args:
        classifier: a `Denoiser` whose network puts out logits, under the perturbation whose levels are measured.
        dataset: a data set with labels, in memory or streamed.
        times: levels t above 0.
        batch_size: how many examples are measured at once.
        num_examples: how many examples are measured, from the first; 0 for all.
        seed: the seed of the noise.
        codec: the codec that the classifier was trained with, as in `error_per_level`.
    """
    measure = functools.partial(_right, classifier)
    found = over_levels(measure, dataset, times, batch_size, num_examples, seed, conditional=True, codec=codec)
    return found[0], found[1]


@jax.jit
def _right(classifier, x0, label, t, key, rows):
    """Whether each example is classified rightly at level t, and its cross-entropy, as one array `[2, B]`."""
    process = classifier.perturbation
    logits = classifier.output(process.perturb(x0, t, noise_of(process, x0, t, key, rows)), t)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return jnp.stack([(jnp.argmax(logits, axis=1) == label).astype(loss.dtype), loss])
