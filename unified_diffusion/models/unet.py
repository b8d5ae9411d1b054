"""The U-Net, which is the convolutional network of DDPM for images."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from unified_diffusion.errors import UserError
from unified_diffusion.models.embeddings import Conditioning
from unified_diffusion.models.layers import Downsample, GroupNorm, ResBlock, Upsample, conv, dropout_keys
from unified_diffusion.models.options import check_at_least, check_dropout, check_input, compute_dtype
from unified_diffusion.models.parameters import zero_init


class UNet(nnx.Module):
    """The U-Net: residual blocks shrink the image level by level, and further blocks enlarge it again.

    Each block on the way up also reads the output of the corresponding block on the way down. The defaults on
    (32, 32, 3) are the CIFAR-10 network of Ho et al. 2020, appendix B: 35,746,307 parameters. The output is exactly
    zero at the start, because the parameters of the last convolution are.

        network = UNet((8, 8, 1), channels=32, multipliers=(1, 2), attention_resolutions=(), rngs=nnx.Rngs(0))
        output = network(x_t, perturbation.noise_label(t))

    Args:
        example_shape: (H, W, C) of one image; H and W are divisible by 2^(len(multipliers) - 1).
        channels: the number of channels in the first level, even and at least 4. The sinusoids of the noise label are
            as many, and the vector made of them has 4 times this size.
        multipliers: the channels of each level, divided by `channels`. Each further level has half the resolution.
        num_blocks: the number of residual blocks in a level on the way down; the way up has one more in each level.
        attention_resolutions: the heights of the levels whose blocks are followed by self-attention. The blocks between
            the way down and the way up always have it.
        dropout: the rate of dropout before the second convolution of each block, for calls that are given `rngs`.
        num_groups: the largest number of groups in a group norm. The number taken is the largest divisor of the
            channels up to this one that leaves at least 4 channels in a group: 32 for multiples of 128 channels, and 16
            for 64 channels.
        out_channels: the number of output channels; None means C. A learned variance takes 2 C.
        num_classes: the number of classes. Labels are 0 .. num_classes - 1, and `num_classes` itself is "no label".
            With 0 the network takes no labels.
        noise_embedding: the embedding of the noise label, "sinusoidal" or "fourier".
        dtype: the type of the computations, "float32" or "bfloat16". Parameters, the statistics of norms and the output
            are float32.
        remat: whether to recompute each block in the backward pass in place of storing its inner values. This takes
            less memory and about a third more work, and gives the same values.
        rngs: random numbers; the `params` stream draws the initial parameters.

    Raises:
        UserError: an argument is out of its range; the message says what to write instead.
    """

    def __init__(
        self,
        example_shape: tuple[int, ...],
        *,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        num_blocks: int = 2,
        attention_resolutions: tuple[int, ...] = (16,),
        dropout: float = 0.1,
        num_groups: int = 32,
        out_channels: int | None = None,
        num_classes: int = 0,
        noise_embedding: str = "sinusoidal",
        dtype: str = "float32",
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.example_shape = tuple(example_shape)
        check_levels("unet", self.example_shape, channels, multipliers, attention_resolutions)
        check_at_least(1, num_blocks=num_blocks, num_groups=num_groups)
        check_at_least(0, num_classes=num_classes)
        check_dropout(dropout)
        height, _, in_channels = self.example_shape
        out_channels = in_channels if out_channels is None else out_channels
        check_at_least(1, out_channels=out_channels)
        common = {"dtype": compute_dtype(dtype), "rngs": rngs}

        def block(width_in, width_out, attend):
            options = {"embedding": 4 * channels, "attend": attend, "dropout": dropout, "num_groups": num_groups}
            return ResBlock(width_in, width_out, **options, **common)

        self.num_classes = num_classes
        self.dropout = dropout
        self.remat = remat
        self.conditioning = Conditioning(channels, num_classes=num_classes, noise_embedding=noise_embedding, **common)
        self.conv_in = conv(in_channels, channels, **common)
        levels = [(channels * m, height >> i in attention_resolutions) for i, m in enumerate(multipliers)]

        width, skips, down, up = channels, [channels], [], []
        for level, (level_width, attend) in enumerate(levels):
            for _ in range(num_blocks):
                down.append(block(width, level_width, attend))
                width = level_width
                skips.append(width)
            if level < len(levels) - 1:
                down.append(Downsample(width, **common))
                skips.append(width)
        middle = [block(width, width, True), block(width, width, False)]
        for level, (level_width, attend) in reversed(list(enumerate(levels))):
            for _ in range(num_blocks + 1):
                up.append(block(width + skips.pop(), level_width, attend))
                width = level_width
            if level > 0:
                up.append(Upsample(width, **common))

        self.down, self.middle, self.up = nnx.List(down), nnx.List(middle), nnx.List(up)
        self.norm_out = GroupNorm(width, num_groups=num_groups, dtype=common["dtype"])
        self.conv_out = conv(width, out_channels, init=zero_init, **common)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        noise_label: Num[ArrayLike, " b"] | Num[ArrayLike, ""],
        label: Int[ArrayLike, " b"] | Int[ArrayLike, ""] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b h w d"]:
        """Returns the output for noisy images in float32.

        Args:
            x: noisy images [B, H, W, C].
            noise_label: the number of the noise level, whole or fractional: [B], or a scalar for the whole batch.
            label: the class of each image, [B] or a scalar; None is the class `num_classes`, "no label".
            rngs: random numbers, whose `dropout` stream gives one key for dropout; None turns dropout off.

        Raises:
            UserError: the images have another shape than the network was built for, or a label is given where
                `num_classes` is 0.
        """
        check_input(x, self.example_shape)
        embedding = self.conditioning(noise_label, label, x.shape[0])
        keys = dropout_keys(rngs, self.dropout)

        def run(layer, h):
            if not isinstance(layer, ResBlock):
                return layer(h)
            call = jax.checkpoint(layer.__call__) if self.remat else layer
            return call(h, embedding, next(keys))

        h = self.conv_in(x)
        skips = [h]
        for layer in self.down:
            h = run(layer, h)
            skips.append(h)
        for layer in self.middle:
            h = run(layer, h)
        for layer in self.up:
            h = run(layer, jnp.concatenate([h, skips.pop()], axis=-1) if isinstance(layer, ResBlock) else h)
        return self.conv_out(jax.nn.swish(self.norm_out(h))).astype(jnp.float32)


def check_levels(model, example_shape, channels, multipliers, attention_resolutions):
    """Raises UserError unless the levels of the network called `model` fit the image."""
    if len(example_shape) != 3:
        other = ": use the model 'mlp' for vectors" if model == "unet" else ""
        raise UserError(f"{model} takes images of shape (H, W, C), not {example_shape}{other}")
    if channels < 4 or channels % 2:
        raise UserError(f"channels is {channels}: it must be even and at least 4")
    if not multipliers or min(multipliers) < 1:
        raise UserError(f"multipliers is {multipliers}: give one whole number, at least 1, for each resolution")
    height, width, _ = example_shape
    halvings = len(multipliers) - 1
    if height % 2**halvings or width % 2**halvings:
        fitting = max(n for n in range(halvings) if height % 2**n == 0 and width % 2**n == 0) + 1
        raise UserError(
            f"{height}x{width} images cannot be halved {halvings} times: give multipliers at most {fitting} entries"
            f" (now {multipliers}), or images whose sides are divisible by {2**halvings}"
        )
    heights = [height >> level for level in range(halvings + 1)]
    strangers = [r for r in attention_resolutions if r not in heights]
    if strangers:
        raise UserError(
            f"attention_resolutions {attention_resolutions} has {strangers[0]}, but the levels are"
            f" {', '.join(map(str, heights))} pixels high: choose among these, or () for attention in the middle only"
        )
