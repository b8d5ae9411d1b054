"""How often a classifier of noisy data is right, at each noise level."""

import functools

import jax
import jax.numpy as jnp
import optax

from unified_diffusion.evaluation.levels import noise_of, over_levels


def accuracy_per_level(classifier, dataset, times, *, batch_size=250, num_examples=0, seed=0, codec=None):
    """(right, cross-entropy in nats) of each example at each of `times`, both `[examples, len(times)]` float64.

    `right` is 1 where the likeliest class is the label, and else 0. The noise is that of `error_per_level`.

    Args:
        classifier: a `Denoiser` whose network puts out logits, under the perturbation whose levels are measured.
        dataset: in memory or streamed, with labels; its first `num_examples` examples, or all for 0.
        times: levels t above 0.
        codec: the codec that the classifier was trained with, as in `error_per_level`.
    """
    measure = functools.partial(_right, classifier)
    found = over_levels(measure, dataset, times, batch_size, num_examples, seed, conditional=True, codec=codec)
    return found[0], found[1]


@jax.jit
def _right(classifier, x0, label, t, key, rows):
    """(whether each example is classified rightly, its cross-entropy) at level t, `[2, B]`."""
    process = classifier.perturbation
    logits = classifier.output(process.perturb(x0, t, noise_of(process, x0, t, key, rows)), t)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return jnp.stack([(jnp.argmax(logits, axis=1) == label).astype(loss.dtype), loss])
