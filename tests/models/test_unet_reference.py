"""The U-Net against an independent one: NumPy, float64, channels first, written from the paper's description."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unified_diffusion.models import UNet
from unified_diffusion.models.embeddings import sinusoidal
from unified_diffusion.models.layers import Attention, Downsample, GroupNorm, Upsample

RNG = np.random.default_rng(0)


def values(param):
    return np.asarray(param[...], np.float64)


def swish(x):
    return x / (1 + np.exp(-x))


def dense(layer, x):
    return x @ values(layer.kernel) + values(layer.bias)


def conv(layer, x, stride=1):
    """[B, C, H, W]; stride 1 pads one pixel on every side, stride 2 one below and one at the right."""
    kernel = values(layer.kernel)
    before, after = (1, 1) if stride == 1 else (0, 1)
    x = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    rows, columns = (x.shape[2] - 2 + stride - 1) // stride, (x.shape[3] - 2 + stride - 1) // stride
    out = np.zeros((x.shape[0], kernel.shape[3], rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, :, i, j] = np.einsum("bcyx,yxcd->bd", window, kernel)
    return out + values(layer.bias)[:, None, None]


def group_norm(layer, x, groups):
    out = np.empty_like(x)
    for channels in np.split(np.arange(x.shape[1]), groups):
        part = x[:, channels]
        mean, var = part.mean((1, 2, 3), keepdims=True), part.var((1, 2, 3), keepdims=True)
        out[:, channels] = (part - mean) / np.sqrt(var + 1e-6)
    return out * values(layer.scale)[:, None, None] + values(layer.bias)[:, None, None]


def attention(layer, x, groups):
    batch, channels, height, width = x.shape
    h = group_norm(layer.norm, x, groups).reshape(batch, channels, -1).swapaxes(1, 2)
    q, k, v = dense(layer.query, h), dense(layer.key, h), dense(layer.value, h)
    out = np.empty_like(q)
    for b in range(batch):
        for i in range(height * width):
            weights = np.exp(k[b] @ q[b, i] / np.sqrt(channels))
            out[b, i] = weights @ v[b] / weights.sum()
    return x + dense(layer.proj, out).swapaxes(1, 2).reshape(x.shape)


def embedding(labels, dim):
    half = dim // 2
    angles = np.array([[n * np.exp(-np.log(10000.0) * i / (half - 1)) for i in range(half)] for n in labels])
    return np.hstack([np.sin(angles), np.cos(angles)])


def res_block(layer, x, emb, groups):
    h = conv(layer.conv_1, swish(group_norm(layer.norm_1, x, groups(x))))
    h = h + dense(layer.embed, swish(emb))[:, :, None, None]
    h = conv(layer.conv_2, swish(group_norm(layer.norm_2, h, groups(h))))
    if layer.shortcut is not None:
        x = dense(layer.shortcut, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return x + h


def unet(net, x, noise_label, label, *, channels, levels, num_blocks, attention_levels):
    def groups(h):
        return h.shape[1] // 4

    def block(layer, h, attend):
        h = res_block(layer, h, emb, groups)
        assert (layer.attention is not None) == attend
        return attention(layer.attention, h, groups(h)) if attend else h

    cond = net.conditioning
    emb = dense(cond.dense_2, swish(dense(cond.dense_1, embedding(noise_label, channels))))
    emb = emb + values(cond.classes)[label]
    down, up = iter(net.down), iter(net.up)
    h = conv(net.conv_in, x)
    skips = [h]
    for level in range(levels):
        for _ in range(num_blocks):
            h = block(next(down), h, level in attention_levels)
            skips.append(h)
        if level < levels - 1:
            h = conv(next(down).conv, h, stride=2)
            skips.append(h)
    h = block(net.middle[0], h, True)
    h = block(net.middle[1], h, False)
    for level in reversed(range(levels)):
        for _ in range(num_blocks + 1):
            h = block(next(up), np.concatenate([h, skips.pop()], axis=1), level in attention_levels)
        if level > 0:
            h = conv(next(up).conv, h.repeat(2, 2).repeat(2, 3))
    assert not skips
    assert not list(down)
    assert not list(up)
    return conv(net.conv_out, swish(group_norm(net.norm_out, h, groups(h))))


def first(x):
    """Channels last to channels first."""
    return np.moveaxis(np.asarray(x, np.float64), -1, 1)


def test_sinusoidal_is_sines_then_cosines_from_frequency_1_to_1e_4():
    labels = np.array([0.0, 1.0, 2.5, 417.25, 999.0])
    np.testing.assert_allclose(sinusoidal(jnp.asarray(labels), 32), embedding(labels, 32), atol=1e-4)
    slowest = sinusoidal(jnp.array([1000]), 32)[0]
    np.testing.assert_allclose([slowest[15], slowest[31]], [np.sin(0.1), np.cos(0.1)], atol=1e-6)


def test_group_norm_with_a_large_mean(randomise):
    layer = randomise(lambda: GroupNorm(24, num_groups=6, dtype=jnp.float32))
    x = (RNG.normal(size=(3, 4, 5, 24)) * np.linspace(0.1, 9, 24) + 50).astype(np.float32)
    np.testing.assert_allclose(first(layer(jnp.asarray(x))), group_norm(layer, first(x), 6), atol=2e-4)


def test_attention(randomise):
    layer = randomise(lambda: Attention(16, num_groups=4, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    x = RNG.normal(size=(2, 3, 4, 16)).astype(np.float32)
    np.testing.assert_allclose(first(layer(jnp.asarray(x))), attention(layer, first(x), 4), atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 6), (2, 2)])
def test_downsample_pads_after_and_not_before(randomise, shape):
    layer = randomise(lambda: Downsample(5, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    x = RNG.normal(size=(2, *shape, 5)).astype(np.float32)
    np.testing.assert_allclose(first(layer(jnp.asarray(x))), conv(layer.conv, first(x), stride=2), atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (1, 1), (1, 2)])
def test_upsample_repeats_pixels(randomise, shape):
    layer = randomise(lambda: Upsample(5, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    x = RNG.normal(size=(2, *shape, 5)).astype(np.float32)
    expected = conv(layer.conv, first(x).repeat(2, 2).repeat(2, 3))
    np.testing.assert_allclose(first(layer(jnp.asarray(x))), expected, atol=1e-5)


def test_the_whole_network(randomise):
    options = {"channels": 8, "multipliers": (1, 2, 3), "num_blocks": 2, "attention_resolutions": (4,)}
    net = randomise(lambda: UNet((8, 12, 2), num_classes=3, out_channels=4, rngs=nnx.Rngs(0), **options))
    x = RNG.normal(size=(2, 8, 12, 2)).astype(np.float32)
    noise_label = np.array([3.5, 250.0], np.float32)
    got = nnx.jit(UNet.__call__)(net, jnp.asarray(x), noise_label, np.array([2, 0]))
    structure = {"channels": 8, "levels": 3, "num_blocks": 2, "attention_levels": (1,)}
    expected = unet(net, first(x), noise_label, np.array([2, 0]), **structure)
    assert expected.std() > 0.1
    np.testing.assert_allclose(first(got), expected, atol=1e-4)
