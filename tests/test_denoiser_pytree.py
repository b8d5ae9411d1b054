"""A denoiser passed to jit, grad, vmap and tree_map: its network's parameters are the leaves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unified_diffusion import Denoiser
from unified_diffusion.perturbations import DDPM, NCSN

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


class Affine(nnx.Module):
    """eps_hat = slope x + shift, counting how often it is traced."""

    traces = 0

    def __init__(self, slope, shift):
        self.slope, self.shift = nnx.Param(jnp.asarray(slope)), nnx.Param(jnp.asarray(shift))

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        Affine.traces += 1
        return self.slope[...] * x + self.shift[...]


@pytest.fixture
def denoiser():
    Affine.traces = 0
    return Denoiser(Affine(0.5, 0.25), DDPM(10))


@jax.jit
def eps(denoiser, x, t):
    return denoiser(x, t).eps


def test_new_parameters_compile_nothing_anew(denoiser):
    t = jnp.array(3)
    np.testing.assert_allclose(eps(denoiser, X, t), 0.5 * X + 0.25, rtol=1e-6)
    first = Affine.traces
    other = dataclasses.replace(denoiser, network=Affine(2.0, -1.0), perturbation=DDPM(10))
    np.testing.assert_allclose(eps(other, X, t), 2 * X - 1, rtol=1e-6)
    assert Affine.traces == first == 1
    eps(dataclasses.replace(denoiser, perturbation=NCSN()), X, t)
    assert Affine.traces == 2


def test_a_network_without_parameters_is_part_of_the_program():
    def network(x, noise_label, label=None, *, rngs=None):
        return 3 * x

    denoiser = Denoiser(network, DDPM(10), label=jnp.array([1, 2, 3, 4]))
    assert [leaf.shape for leaf in jax.tree.leaves(denoiser)] == [(4,)]
    np.testing.assert_allclose(eps(denoiser, X, jnp.array(3)), 3 * X, rtol=1e-6)


def test_tree_map_reaches_every_leaf_and_keeps_the_rest(denoiser):
    denoiser = denoiser.under(NCSN()).given(jnp.array([1, 2, 3, 4]))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, denoiser)
    assert float(doubled.network.slope[...]) == 1.0
    assert (doubled.perturbation, doubled.native, doubled.prediction) == (NCSN(), DDPM(10), "eps")
    np.testing.assert_array_equal(doubled.label, [2, 4, 6, 8])
    shapes = jax.tree.map(jnp.shape, denoiser, is_leaf=lambda leaf: isinstance(leaf, jax.Array))
    assert shapes.label == (4,)
    assert jax.eval_shape(lambda d: d, denoiser).label.shape == (4,)


def test_a_gradient_with_respect_to_a_denoiser_is_a_denoiser_of_gradients(denoiser):
    t = 4
    process = denoiser.perturbation
    gradient = jax.grad(lambda d: jnp.sum(d(X, t).x0))(denoiser)
    # x0 = (x - sigma (slope x + shift)) / alpha
    ratio = process.sigma(t) / process.alpha(t)
    np.testing.assert_allclose(gradient.network.slope[...], -ratio * jnp.sum(X), rtol=2e-6)
    np.testing.assert_allclose(gradient.network.shift[...], -ratio * X.size, rtol=2e-6)


def test_vmap_over_class_labels(denoiser):
    def network(x, noise_label, label=None, *, rngs=None):
        return x * label[:, None]

    denoiser = Denoiser(network, DDPM(10))
    labels = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    out = jax.vmap(lambda d: d(X, 1).eps)(jax.vmap(denoiser.given)(labels))
    np.testing.assert_allclose(out, X * labels[..., None], rtol=1e-6)
