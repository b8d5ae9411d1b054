"""The pieces of the U-Net: group norm, dropout, attention, residual block, resampling."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from unified_diffusion.models.parameters import dense_init, zero_init


def conv(in_channels, out_channels, *, stride=1, init=dense_init, dtype, rngs):
    """A 3 x 3 convolution with bias, padded as JAX's SAME: with stride 2 an even side gets 0 before and 1 after."""
    options = {"strides": stride, "padding": "SAME", "kernel_init": init, "conv_general_dilated": convolve}
    return nnx.Conv(in_channels, out_channels, (3, 3), dtype=dtype, rngs=rngs, **options)


def convolve(x, kernel, strides, padding, **options):
    """`jax.lax.conv_general_dilated`; on images at most two pixels wide, 3 x 3 and SAME, as one product."""
    batch, height, width, channels = x.shape
    if min(height, width) > 2 or strides != (1, 1):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    # XLA:CPU narrows the window of a convolution over so few pixels and then takes a path ten times slower.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    columns = jnp.concatenate(patches, axis=-1).reshape(-1, 9 * channels)
    return (columns @ kernel.reshape(9 * channels, -1)).reshape(batch, height, width, -1)


def dense(in_features, out_features, *, init=dense_init, dtype, rngs):
    """A linear map with bias."""
    return nnx.Linear(in_features, out_features, kernel_init=init, dtype=dtype, rngs=rngs)


def at_each_pixel(layer, x):
    """`layer` of the last axis, a 1 x 1 convolution; as one flat product, whose gradient XLA:CPU is quicker at."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def group_count(channels, limit):
    """The largest divisor of `channels` that is at most `limit` and leaves at least four channels in a group."""
    return max(n for n in range(1, limit + 1) if channels % n == 0 and (n == 1 or channels // n >= 4))


class GroupNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) over positions and the channels of a group, then scale and bias a channel.

    Statistics are float32 whatever the compute dtype. Wu & He 2018, eq. 1-7.
    """

    def __init__(self, channels, *, num_groups, dtype, eps=1e-6):
        self.num_groups = group_count(channels, num_groups)
        self.eps = eps
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))

    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        flat = x.astype(jnp.float32).reshape(x.shape[0], -1, x.shape[-1])
        centred = flat - self._group_mean(flat)
        variance = self._group_mean(jnp.square(centred))
        normed = centred * (jax.lax.rsqrt(variance + self.eps) * self.scale[...]) + self.bias[...]
        return normed.astype(self.dtype).reshape(x.shape)

    def _group_mean(self, flat: Float[Array, "b n c"]) -> Float[Array, "b 1 c"]:
        """The mean over positions and group, at each channel of the group."""
        batch, _, channels = flat.shape
        # Positions first: XLA:CPU sums columns of an unsplit channel axis seven times faster than groups of four.
        means = flat.mean(1).reshape(batch, self.num_groups, -1).mean(-1)
        return jnp.repeat(means, channels // self.num_groups, axis=1)[:, None, :]


def dropout(x: Float[Array, "*shape"], rate: float, key) -> Float[Array, "*shape"]:
    """x with each entry zero with probability `rate`, else divided by 1 - rate; x itself where `key` is None."""
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def dropout_keys(rngs, rate):
    """A key for each block of one call, from one draw of `rngs.dropout`; Nones where there is no dropout."""
    if rngs is None or rate == 0:
        return itertools.repeat(None)
    key = rngs.dropout()
    return (jax.random.fold_in(key, index) for index in itertools.count())


class Attention(nnx.Module):
    """x + proj(softmax(q k^T / sqrt(C)) v) over the positions of an image: one head, group norm first."""

    def __init__(self, channels, *, num_groups, dtype, rngs):
        self.norm = GroupNorm(channels, num_groups=num_groups, dtype=dtype)
        self.query = dense(channels, channels, dtype=dtype, rngs=rngs)
        self.key = dense(channels, channels, dtype=dtype, rngs=rngs)
        self.value = dense(channels, channels, dtype=dtype, rngs=rngs)
        self.proj = dense(channels, channels, init=zero_init, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        batch, height, width, channels = x.shape
        h = self.norm(x)
        query, key, value = (
            at_each_pixel(layer, h).reshape(batch, height * width, channels)
            for layer in (self.query, self.key, self.value)
        )
        logits = jnp.einsum("bqc,bkc->bqk", query, key) * channels**-0.5
        weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(h.dtype)
        mixed = jnp.einsum("bqk,bkc->bqc", weights, value)
        return x + at_each_pixel(self.proj, mixed).reshape(x.shape)


class ResBlock(nnx.Module):
    """shortcut(x) + conv(dropout(swish(norm(h)))) of h = conv(swish(norm(x))) + dense(swish(embedding)).

    Then attention, where asked for. The second convolution starts at zero. Ho et al. 2020, appendix B.
    """

    def __init__(self, in_channels, out_channels, *, embedding, attend, dropout, num_groups, dtype, rngs):
        self.dropout = dropout
        self.norm_1 = GroupNorm(in_channels, num_groups=num_groups, dtype=dtype)
        self.conv_1 = conv(in_channels, out_channels, dtype=dtype, rngs=rngs)
        self.embed = dense(embedding, out_channels, dtype=dtype, rngs=rngs)
        self.norm_2 = GroupNorm(out_channels, num_groups=num_groups, dtype=dtype)
        self.conv_2 = conv(out_channels, out_channels, init=zero_init, dtype=dtype, rngs=rngs)
        same = in_channels == out_channels
        self.shortcut = None if same else dense(in_channels, out_channels, dtype=dtype, rngs=rngs)
        self.attention = Attention(out_channels, num_groups=num_groups, dtype=dtype, rngs=rngs) if attend else None

    def __call__(self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], key=None) -> Float[Array, "b h w d"]:
        h = self.conv_1(jax.nn.swish(self.norm_1(x)))
        h = h + self.embed(jax.nn.swish(embedding))[:, None, None, :]
        h = self.conv_2(dropout(jax.nn.swish(self.norm_2(h)), self.dropout, key))
        h = h + (x if self.shortcut is None else at_each_pixel(self.shortcut, x))
        return h if self.attention is None else self.attention(h)


class Downsample(nnx.Module):
    """Half the height and width by a 3 x 3 convolution of stride 2."""

    def __init__(self, channels, *, dtype, rngs):
        self.conv = conv(channels, channels, stride=2, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Twice the height and width by repeating each pixel, then a 3 x 3 convolution."""

    def __init__(self, channels, *, dtype, rngs):
        self.conv = conv(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        return self.conv(x.repeat(2, axis=1).repeat(2, axis=2))
