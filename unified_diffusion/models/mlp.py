"""A residual network of dense layers, for vectors."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from unified_diffusion.errors import UserError
from unified_diffusion.models.embeddings import Conditioning
from unified_diffusion.models.layers import dense, dropout, dropout_keys
from unified_diffusion.models.options import check_at_least, check_dropout, check_input, compute_dtype
from unified_diffusion.models.parameters import zero_init


class MLPBlock(nnx.Module):
    """A residual block of vectors: h + dense(dropout(swish(dense(h) + dense(swish(embedding)))))."""

    def __init__(self, width, *, embedding, dropout, dtype, rngs):
        self.dropout = dropout
        self.dense_1 = dense(width, width, dtype=dtype, rngs=rngs)
        self.embed = dense(embedding, width, dtype=dtype, rngs=rngs)
        self.dense_2 = dense(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, h: Float[Array, "b w"], embedding: Float[Array, "b e"], key=None) -> Float[Array, "b w"]:
        inner = jax.nn.swish(self.dense_1(h) + self.embed(jax.nn.swish(embedding)))
        return h + self.dense_2(dropout(inner, self.dropout, key))


class MLP(nnx.Module):
    """A network for points in the plane and other vectors: residual blocks, each of which is told the noise level.

    A block has two dense layers. The output is exactly zero at the start, because the parameters of the last layer are.

        network = MLP((2,), width=64, rngs=nnx.Rngs(0))
        output = network(x_t, perturbation.noise_label(t))

    Args:
        example_shape: (D,) of one vector.
        width: the number of units in a layer, even and at least 4.
        depth: the number of residual blocks.
        dropout: the rate of dropout in each block, for calls that are given `rngs`.
        out_channels: the size of the output vector; None means D. A learned variance takes 2 D.
        num_classes: the number of classes. Labels are 0 .. num_classes - 1, and `num_classes` itself is "no label".
            With 0 the network takes no labels.
        noise_embedding: the embedding of the noise label, "sinusoidal" or "fourier".
        dtype: the type of the computations, "float32" or "bfloat16". Parameters and the output are float32.
        rngs: random numbers; the `params` stream draws the initial parameters.

    Raises:
        UserError: an argument is out of its range; the message says what to write instead.
    """

    def __init__(
        self,
        example_shape: tuple[int, ...],
        *,
        width: int = 128,
        depth: int = 3,
        dropout: float = 0.0,
        out_channels: int | None = None,
        num_classes: int = 0,
        noise_embedding: str = "sinusoidal",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.example_shape = tuple(example_shape)
        if len(self.example_shape) != 1:
            raise UserError(
                f"mlp takes vectors of shape (D,), not {self.example_shape}: use the model 'unet' for images"
            )
        if width < 4 or width % 2:
            raise UserError(f"width is {width}: it must be even and at least 4")
        check_at_least(1, depth=depth)
        check_at_least(0, num_classes=num_classes)
        check_dropout(dropout)
        (in_features,) = self.example_shape
        out_channels = in_features if out_channels is None else out_channels
        check_at_least(1, out_channels=out_channels)
        common = {"dtype": compute_dtype(dtype), "rngs": rngs}

        self.num_classes = num_classes
        self.dropout = dropout
        self.conditioning = Conditioning(width, num_classes=num_classes, noise_embedding=noise_embedding, **common)
        self.dense_in = dense(in_features, width, **common)
        self.blocks = nnx.List([MLPBlock(width, embedding=4 * width, dropout=dropout, **common) for _ in range(depth)])
        self.dense_out = dense(width, out_channels, init=zero_init, **common)

    def __call__(
        self,
        x: Float[Array, "b d"],
        noise_label: Num[ArrayLike, " b"] | Num[ArrayLike, ""],
        label: Int[ArrayLike, " b"] | Int[ArrayLike, ""] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b e"]:
        """Returns the output for noisy vectors in float32.

        Args:
            x: noisy vectors [B, D].
            noise_label: the number of the noise level, whole or fractional: [B], or a scalar for the whole batch.
            label: the class of each vector, [B] or a scalar; None is the class `num_classes`, "no label".
            rngs: random numbers, whose `dropout` stream gives one key for dropout; None turns dropout off.

        Raises:
            UserError: the vectors have another size than the network was built for, or a label is given where
                `num_classes` is 0.
        """
        check_input(x, self.example_shape)
        embedding = self.conditioning(noise_label, label, x.shape[0])
        keys = dropout_keys(rngs, self.dropout)
        h = self.dense_in(x)
        for block in self.blocks:
            h = block(h, embedding, next(keys))
        return self.dense_out(jax.nn.swish(h)).astype(jnp.float32)
