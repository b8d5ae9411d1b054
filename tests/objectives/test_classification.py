"""The classifier's objective against the cross-entropy written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser, UserError
from unified_diffusion.objectives import Classification
from unified_diffusion.perturbations import DDPM

PROCESS = DDPM(20, "cosine")
X0 = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
LABEL = np.array([0, 2, 1, 1, 0], np.int32)


def logits(x, noise_label, label=None, *, rngs=None):
    return x * (1 + noise_label[:, None])


def test_it_is_the_cross_entropy_of_noisy_data():
    t, noise = np.array([1, 5, 10, 15, 20], np.int32), np.random.default_rng(1).normal(size=X0.shape).astype(np.float32)
    loss, metrics = Classification().at(Denoiser(logits, PROCESS), X0, t, noise, jnp.asarray(LABEL))
    alpha, sigma = (np.asarray(level, np.float64)[:, None] for level in PROCESS.exact(t)[1:3])
    z = (alpha * X0 + sigma * noise) * t[:, None]  # the label of DDPM's level t is t - 1
    log_probs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(loss, -log_probs[np.arange(5), LABEL], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(metrics["accuracy"], log_probs.argmax(axis=1) == LABEL)


def test_levels_and_noise_are_drawn_from_the_key():
    objective, denoiser, label = Classification(), Denoiser(logits, PROCESS), jnp.asarray(LABEL)
    first, metrics = objective(denoiser, X0, jax.random.key(0), label)
    np.testing.assert_array_equal(first, objective(denoiser, X0, jax.random.key(0), label)[0])
    assert not np.array_equal(first, objective(denoiser, X0, jax.random.key(1), label)[0])
    np.testing.assert_array_equal(first, metrics["loss"])  # levels are uniform, so no weight
    assert len(np.unique(metrics["t"])) > 1


def test_misuse_says_what_to_do():
    with pytest.raises(UserError, match="conditional=true"):
        Classification()(Denoiser(logits, PROCESS), X0, jax.random.key(0))
    images = np.zeros((5, 4, 4, 1), np.float32)
    denoiser = Denoiser(lambda x, noise_label, label=None, *, rngs=None: x, PROCESS)
    with pytest.raises(UserError, match="model.name=classifier"):
        Classification()(denoiser, images, jax.random.key(0), jnp.asarray(LABEL))
    with pytest.raises(UserError, match="uniform"):
        Classification(time_sampler="unifrom")
