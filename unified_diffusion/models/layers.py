"""The layers of the U-Net: group norm, dropout, attention, residual blocks and resampling."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from unified_diffusion.models.parameters import dense_init, zero_init


def conv(in_channels, out_channels, *, stride=1, init=dense_init, dtype, rngs):
    """Returns a 3 x 3 convolution with bias and with JAX's padding SAME.

    With stride 2, SAME pads an even side by 0 pixels before and 1 pixel after.
    """
    options = {"strides": stride, "padding": "SAME", "kernel_init": init, "conv_general_dilated": convolve}
    return nnx.Conv(in_channels, out_channels, (3, 3), dtype=dtype, rngs=rngs, **options)


def convolve(x, kernel, strides, padding, **options):
    """Returns `jax.lax.conv_general_dilated`, for a 3 x 3 kernel and padding SAME.

    On images that are at most two pixels high or wide, and with stride 1, it is computed as one matrix product.
    """
    batch, height, width, channels = x.shape
    if min(height, width) > 2 or strides != (1, 1):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    # XLA:CPU narrows the window of a convolution over so few pixels and then takes a path ten times slower.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    columns = jnp.concatenate(patches, axis=-1).reshape(-1, 9 * channels)
    return (columns @ kernel.reshape(9 * channels, -1)).reshape(batch, height, width, -1)


def dense(in_features, out_features, *, init=dense_init, dtype, rngs):
    """Returns a linear map with bias."""
    return nnx.Linear(in_features, out_features, kernel_init=init, dtype=dtype, rngs=rngs)


def at_each_pixel(layer, x):
    """Applies `layer` to the last axis, as a 1 x 1 convolution does.

    All pixels go into one matrix product, whose gradient is faster on XLA:CPU than that of a convolution.
    """
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def group_count(channels, limit):
    """Returns the largest divisor of `channels` that is at most `limit` and leaves at least 4 channels in a group."""
    return max(n for n in range(1, limit + 1) if channels % n == 0 and (n == 1 or channels // n >= 4))


class GroupNorm(nnx.Module):
    """Group norm: (x - mean) / sqrt(variance + eps), times a scale and plus a bias for each channel.

    The mean and the variance are taken over all positions and the channels of a group. They are computed in float32 for
    every `dtype` of the network. Wu & He 2018, eq. 1-7.
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
        """Returns the mean over the positions and the group, repeated for each channel of the group."""
        batch, _, channels = flat.shape
        # The mean over positions comes first: XLA:CPU sums over whole channels seven times faster than over groups.
        means = flat.mean(1).reshape(batch, self.num_groups, -1).mean(-1)
        return jnp.repeat(means, channels // self.num_groups, axis=1)[:, None, :]


def dropout(x: Float[Array, "*shape"], rate: float, key) -> Float[Array, "*shape"]:
    """Sets each entry of x to zero with probability `rate` and divides the others by 1 - rate.

    Where `key` is None, dropout is off and x comes back as it is.
    """
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def dropout_keys(rngs, rate):
    """Returns an iterator over the blocks' keys, from one draw of `rngs.dropout`; all are None where dropout is off."""
    if rngs is None or rate == 0:
        return itertools.repeat(None)
    key = rngs.dropout()
    return (jax.random.fold_in(key, index) for index in itertools.count())


class Attention(nnx.Module):
    """Self-attention over the positions of an image: x + proj(softmax(q kᵀ / sqrt(C)) v).

    There is one head, and q, k and v are linear maps of group norm(x).
    """

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
    """A residual block of images: shortcut(x) + conv(dropout(swish(norm(h)))).

    Here h = conv(swish(norm(x))) + dense(swish(embedding)), where the embedding tells the noise level and the class.
    Self-attention follows if `attend` is true. The parameters of the second convolution start at zero. Ho et al. 2020,
    appendix B.
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
    """A layer that halves the height and the width by a 3 x 3 convolution with stride 2."""

    def __init__(self, channels, *, dtype, rngs):
        self.conv = conv(channels, channels, stride=2, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """A layer that doubles the height and the width by repeating each pixel, and then convolves by 3 x 3."""

    def __init__(self, channels, *, dtype, rngs):
        self.conv = conv(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        return self.conv(x.repeat(2, axis=1).repeat(2, axis=2))
