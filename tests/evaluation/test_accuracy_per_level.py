"""A classifier's accuracy at each noise level, of one that says what is known."""

import math

import jax.numpy as jnp
import numpy as np

from unified_diffusion import Denoiser
from unified_diffusion.data import Dataset
from unified_diffusion.evaluation import accuracy_per_level
from unified_diffusion.perturbations import DDPM


def sign(x, noise_label, label=None, *, rngs=None):
    """Points right of 0 are of class 1: with logits ±1, and of the right class until the noise hides it."""
    return jnp.concatenate([-jnp.sign(x), jnp.sign(x)], axis=1)


def test_it_counts_what_is_right():
    process, label = DDPM(50, "cosine"), np.arange(400) % 2
    data = Dataset(np.where(label[:, None] == 1, 0.5, -0.5).astype(np.float32), label.astype(np.int32))
    classifier = Denoiser(sign, process)
    times = process.times[[0, 20, 49]]
    right, loss = accuracy_per_level(classifier, data, times, batch_size=150)
    assert right.shape == loss.shape == (400, 3)
    alpha, sigma = (np.asarray(level, np.float64) for level in process.exact(times)[1:3])
    expected = [0.5 + math.erf(ratio / math.sqrt(2)) / 2 for ratio in 0.5 * alpha / sigma]
    np.testing.assert_allclose(right.mean(axis=0), expected, atol=4 * np.sqrt(0.25 / 400))
    np.testing.assert_array_equal(right[:, 0], 1)
    np.testing.assert_allclose(loss, np.where(right == 1, np.log1p(np.exp(-2)), np.log1p(np.exp(2))), rtol=1e-5)
    few, _ = accuracy_per_level(classifier, data, times, batch_size=150, num_examples=37)
    np.testing.assert_array_equal(few, right[:37])
