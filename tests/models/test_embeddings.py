"""What a network is shown of the noise level: the embeddings, and the labels that the processes give them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unified_diffusion import Denoiser, UserError
from unified_diffusion.models import MLP, UNet
from unified_diffusion.models.embeddings import NOISE_EMBEDDINGS, fourier, sinusoidal
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP

CONTINUOUS = [VP(), SubVP(), VE(50), Cosine(), DDPM(betas=(0.1, 0.2, 0.4)).continuous]


def test_fourier_features_have_the_gaussian_kernel():
    """The mean of cos(2 pi f d) over normal f of standard deviation s is exp(-(2 pi s d)² / 2)."""
    labels, scale = np.array([0.0, 0.5, 3.25, 10.0, 25.0, 400.0]), 0.016
    features = np.asarray(fourier(jnp.asarray(labels, jnp.float32), 1024), np.float64)
    distance = labels[:, None] - labels
    kernel = np.exp(-((2 * np.pi * scale * distance) ** 2) / 2)
    # Each of the 512 quantiles stands for 1 / 512 of all frequencies; the last one's share has no end.
    np.testing.assert_allclose(features @ features.T / 512, kernel, atol=6e-3)
    np.testing.assert_allclose(features[0], np.repeat([0, 1], 512))


@pytest.mark.parametrize("name", NOISE_EMBEDDINGS)
def test_embeddings_take_whole_and_fractional_labels_alike(name):
    whole = NOISE_EMBEDDINGS[name](jnp.array([0, 7, 999]), 32)
    assert whole.shape == (3, 32)
    np.testing.assert_array_equal(whole, NOISE_EMBEDDINGS[name](jnp.array([0.0, 7.0, 999.0]), 32))
    between = NOISE_EMBEDDINGS[name](jnp.array([6.0, 6.5, 7.0]), 32)
    lower, upper = (np.linalg.norm(between[1] - between[end]) for end in (0, 2))
    assert 0.05 < lower < np.linalg.norm(between[2] - between[0])
    assert 0.05 < upper < np.linalg.norm(between[2] - between[0])


@pytest.mark.parametrize("process", CONTINUOUS)
def test_continuous_labels_count_levels_as_a_chains_do(process):
    """From 0 at the first level to num_steps - 1 at t = 1: what an embedding made for chains resolves."""
    seen = []

    def network(x, noise_label, label=None, *, rngs=None):
        seen.append(noise_label)
        return x

    t = process.draw_times(jax.random.key(0), 64)
    t = jnp.concatenate([t, jnp.array([process.t_min, 1.0])])
    Denoiser(network, process)(jnp.zeros((66, 2)), t)
    label = np.asarray(seen[0], np.float64)
    assert seen[0].dtype == jnp.float32
    np.testing.assert_allclose(label[-2:], [0, process.num_steps - 1], rtol=1e-6, atol=1e-4)
    assert label.min() > -1e-4
    # Evenly drawn times are evenly drawn labels: Kolmogorov and Smirnov's limit at 1 in 1,000.
    assert np.abs(np.sort(label[:-2]) / (process.num_steps - 1) - (np.arange(64) + 0.5) / 64).max() < 1.95 / 8
    assert np.any(np.abs(label - np.rint(label)) > 0.2)


@pytest.mark.parametrize("chain", [DDPM(), NCSN(), DDPM(5, "cosine")])
def test_a_chains_limit_has_its_labels(chain):
    limit = chain.continuous
    np.testing.assert_allclose(limit.noise_label(limit.times), chain.noise_label(chain.times), atol=1e-6)


@pytest.mark.parametrize("name", NOISE_EMBEDDINGS)
def test_a_network_tells_nearby_times_apart_and_a_thousandth_less_than_a_tenth(randomise, name):
    net = randomise(lambda: MLP((2,), width=64, noise_embedding=name, rngs=nnx.Rngs(0)))
    process, x = VP(), jnp.ones((1, 2))
    at = [np.asarray(net(x, process.noise_label(jnp.array([t])))) for t in (0.5, 0.501, 0.6)]
    near, far = (np.linalg.norm(at[0] - other) for other in at[1:])
    assert 1e-5 < near < far / 2


def test_the_embedding_is_chosen_by_name():
    def build(name):
        return nnx.eval_shape(lambda: MLP((2,), width=8, noise_embedding=name, rngs=nnx.Rngs(0)))

    assert build("fourier").conditioning.embed is fourier
    assert build("sinusoidal").conditioning.embed is sinusoidal
    with pytest.raises(UserError, match="noise embedding 'furier': did you mean 'fourier'"):
        build("furier")


def test_the_unet_takes_it_too():
    options = {"channels": 8, "multipliers": (1,), "num_blocks": 1, "attention_resolutions": ()}
    net = nnx.eval_shape(lambda: UNet((4, 4, 1), noise_embedding="fourier", rngs=nnx.Rngs(0), **options))
    assert net.conditioning.embed is fourier
