"""A classifier of noisy images, which is the first half of the U-Net."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from unified_diffusion.errors import UserError
from unified_diffusion.models.embeddings import Conditioning
from unified_diffusion.models.layers import Downsample, GroupNorm, ResBlock, conv, dense, dropout_keys
from unified_diffusion.models.options import check_at_least, check_dropout, check_input, compute_dtype
from unified_diffusion.models.parameters import zero_init
from unified_diffusion.models.unet import check_levels


class Classifier(nnx.Module):
    """A classifier of noisy images: residual blocks, the mean over the last level's pixels, and a linear map to logits.

    The blocks are those of the U-Net on its way down, and they are told the noise level. This is the encoder of
    Dhariwal & Nichol 2021, section 4.2, except that it takes a mean where the paper pools by attention. The logits are
    exactly zero at the start, because the parameters of the last layer are.

        classifier = Classifier((32, 32, 3), num_classes=10, rngs=nnx.Rngs(0))
        logits = classifier(x_t, perturbation.noise_label(t))

    Args:
        example_shape: (H, W, C) of one image; H and W are divisible by 2^(len(multipliers) - 1).
        channels, multipliers, num_blocks, attention_resolutions, dropout, num_groups, dtype: as in `UNet`.
        num_classes: the number of classes, at least 2.
        rngs: random numbers; the `params` stream draws the initial parameters.

    Raises:
        UserError: an argument is out of its range; the message says what to write instead.
    """

    classifies = True

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
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.example_shape = tuple(example_shape)
        check_levels("classifier", self.example_shape, channels, multipliers, attention_resolutions)
        check_at_least(1, num_blocks=num_blocks, num_groups=num_groups)
        check_dropout(dropout)
        if num_classes < 2:
            raise UserError(f"a classifier of {num_classes} classes: it needs data with labels of at least 2")
        height, _, in_channels = self.example_shape
        common = {"dtype": compute_dtype(dtype), "rngs": rngs}

        def block(width_in, width_out, attend):
            options = {"embedding": 4 * channels, "attend": attend, "dropout": dropout, "num_groups": num_groups}
            return ResBlock(width_in, width_out, **options, **common)

        self.dropout = dropout
        self.conditioning = Conditioning(channels, num_classes=0, **common)
        self.conv_in = conv(in_channels, channels, **common)
        width, layers = channels, []
        for level, multiplier in enumerate(multipliers):
            for _ in range(num_blocks):
                layers.append(block(width, channels * multiplier, height >> level in attention_resolutions))
                width = channels * multiplier
            if level < len(multipliers) - 1:
                layers.append(Downsample(width, **common))
        self.layers = nnx.List([*layers, block(width, width, True), block(width, width, False)])
        self.norm_out = GroupNorm(width, num_groups=num_groups, dtype=common["dtype"])
        self.dense_out = dense(width, num_classes, init=zero_init, **common)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        noise_label: Num[ArrayLike, " b"] | Num[ArrayLike, ""],
        label: Int[ArrayLike, " b"] | Int[ArrayLike, ""] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b classes"]:
        """Returns the logits of noisy images in float32.

        Args:
            x: noisy images [B, H, W, C].
            noise_label: the number of the noise level, whole or fractional: [B], or a scalar for the whole batch.
            label: ignored; all networks have this argument.
            rngs: random numbers, whose `dropout` stream gives one key for dropout; None turns dropout off.

        Raises:
            UserError: the images have another shape than the network was built for.
        """
        del label
        check_input(x, self.example_shape)
        embedding = self.conditioning(noise_label, None, x.shape[0])
        keys = dropout_keys(rngs, self.dropout)
        h = self.conv_in(x)
        for layer in self.layers:
            h = layer(h, embedding, next(keys)) if isinstance(layer, ResBlock) else layer(h)
        features = jnp.mean(jax.nn.swish(self.norm_out(h)), axis=(1, 2))
        return self.dense_out(features).astype(jnp.float32)
