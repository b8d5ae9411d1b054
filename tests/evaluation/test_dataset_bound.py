"""The bound over a dataset: means of its examples' bounds, and the progressive code that they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion import Denoiser
from unified_diffusion.data import Dataset, to_model
from unified_diffusion.evaluation import dataset_bound
from unified_diffusion.keys import named_key
from unified_diffusion.likelihood import variational_bound
from unified_diffusion.perturbations import DDPM

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 2, 2, 1), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.int32) % 3


def network(x, noise_label, label=None, *, rngs=None):
    return jnp.sin(x) + (0 if label is None else label[:, None, None, None])


def test_it_is_the_mean_of_the_examples_whatever_the_batch():
    dataset, process = Dataset(IMAGES, LABELS), DDPM(12, beta_end=0.3)
    denoiser = Denoiser(network, process)
    results = [dataset_bound(denoiser, dataset, batch_size=size, num_examples=6, conditional=True) for size in (4, 250)]
    for part, other in zip(*results, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5)
    keys = jax.vmap(functools.partial(jax.random.fold_in, named_key(0, "variational bound")))(jnp.arange(6))
    bound = variational_bound(denoiser, to_model(IMAGES[:6]), keys, LABELS[:6])
    result = results[0]
    assert result.num_examples == 6
    total = np.asarray(bound.total, np.float64)
    np.testing.assert_allclose(result.total, total.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.standard_error, total.std(ddof=1) / np.sqrt(6), rtol=1e-4)
    np.testing.assert_allclose(result.total, result.prior + result.diffusion + result.reconstruction, rtol=1e-6)
    np.testing.assert_array_equal(result.t, np.arange(1, 13))
    np.testing.assert_allclose(result.per_level[1:], np.asarray(bound.diffusion).mean(0)[1:], rtol=1e-5)
    # What has been sent when x_t is known: the prior's bits and those of every step from a noisier level.
    for k in range(12):
        np.testing.assert_allclose(result.rate[k], result.prior + result.per_level[k + 1 :].sum(), rtol=1e-6)
    np.testing.assert_allclose(result.distortion, np.sqrt(np.asarray(bound.x0_error).mean(0)), rtol=1e-5)
