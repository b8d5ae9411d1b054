"""Embeddings of the noise level and of the class, which a network is told beside its input."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from unified_diffusion.errors import UserError
from unified_diffusion.models.parameters import dense_init
from unified_diffusion.registry import lookup


def sinusoidal(labels: Num[Array, " b"], dim: int) -> Float[Array, "b {dim}"]:
    """Returns [sin(f_i n), cos(f_i n)] of noise labels n, with f_i = 10000^(-i / (dim / 2 - 1)), i = 0 .. dim / 2 - 1.

    The embedding is computed in float32, for whole and fractional labels alike. `dim` is even and at least 4.
    Source: Vaswani et al. 2017, section 3.5; all sines come before all cosines, as in the code of Ho et al. 2020.
    """
    half = dim // 2
    frequencies = np.exp(-np.log(1e4) * np.arange(half) / (half - 1)).astype(np.float32)
    angles = labels.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


def fourier(labels: Num[Array, " b"], dim: int, scale: float = 0.016) -> Float[Array, "b {dim}"]:
    """Returns [sin(2 pi f_i n), cos(2 pi f_i n)] of noise labels n, with normally distributed frequencies f_i.

    The f_i are evenly spaced quantiles of the normal distribution with standard deviation `scale`, in 1 / n, so that no
    seed chooses them. All f_i are positive, because -f gives the features of f up to a sign. Labels count noise levels,
    and the default `scale` is 16 per 1,000 levels: Song et al. 2021 take 16 for their t in [0, 1]. `dim` is even.
    Source: Tancik et al. 2020, whose frequencies are random draws.
    """
    half = dim // 2
    quantiles = [NormalDist(sigma=scale).inv_cdf(0.5 + (i + 0.5) / dim) for i in range(half)]
    angles = labels.astype(jnp.float32)[:, None] * np.float32(2 * np.pi * np.array(quantiles))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


NOISE_EMBEDDINGS = {"sinusoidal": sinusoidal, "fourier": fourier}


class Conditioning(nnx.Module):
    """The module that turns a noise label and a class label into one vector, which every block of a network is told.

    The vector is dense(swish(dense(embedding(noise_label)))) + table[label], where the embedding is the one called
    `noise_embedding` in `NOISE_EMBEDDINGS`. Noise labels count the noise levels of a process from 0 and may be
    fractional. A continuous process has such labels too (`Perturbation.noise_label`), so that one embedding suits both
    kinds of processes.

    Row `num_classes` of the table stands for "no label", and `label=None` reads this row. A network that was trained
    with some labels replaced by `num_classes` is conditional and unconditional at once (classifier-free guidance).
    """

    def __init__(self, channels, *, num_classes, noise_embedding="sinusoidal", dtype, rngs):
        self.embed = lookup(NOISE_EMBEDDINGS, noise_embedding, "noise embedding")
        width = 4 * channels
        self.channels = channels
        self.num_classes = num_classes
        self.dense_1 = nnx.Linear(channels, width, dtype=dtype, kernel_init=dense_init, rngs=rngs)
        self.dense_2 = nnx.Linear(width, width, dtype=dtype, kernel_init=dense_init, rngs=rngs)
        if num_classes:
            table = jax.random.normal(rngs.params(), (num_classes + 1, width), jnp.float32)
            self.classes = nnx.Param(table)

    def __call__(self, noise_label: ArrayLike, label: ArrayLike | None, batch: int) -> Float[Array, "{batch} width"]:
        """Returns the vector of each of `batch` examples; a scalar label holds for the whole batch.

        A label below 0 or above `num_classes` gives NaN, because no error can be raised under `jax.jit`.

        Raises:
            UserError: a label is given to a network that was built without classes.
        """
        noise_label = jnp.broadcast_to(jnp.asarray(noise_label), (batch,))
        embedding = self.dense_2(jax.nn.swish(self.dense_1(self.embed(noise_label, self.channels))))
        if not self.num_classes:
            if label is not None:
                raise UserError("a label was given to a network without classes: build it with num_classes > 0")
            return embedding
        label = jnp.broadcast_to(jnp.asarray(self.num_classes if label is None else label), (batch,))
        label = jnp.where(label < 0, self.num_classes + 1, label)  # a negative index would count from the end
        chosen = self.classes[...].at[label].get(mode="fill", fill_value=jnp.nan)
        return embedding + chosen.astype(embedding.dtype)
