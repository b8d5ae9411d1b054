"""DDIM inversion: DDIM runs from an image up to its latent and down again, and so interpolates two images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from unified_diffusion.conditions import Value
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.perturbations import expand
from unified_diffusion.samplers.base import Row
from unified_diffusion.samplers.ddim import DDIM


def encode(
    denoiser: Denoiser,
    x0: Float[Array | np.ndarray, " b *d"],
    label: Value = None,
    *,
    num_steps: int = 250,
    spacing: str = "uniform",
    clip_x0: bool = False,
) -> Float[Array, " b *d"]:
    """Returns the latent x_T of data, by DDIM's deterministic steps upwards (Song, Meng & Ermon 2021, section 4.3).

    A step from s up to t uses eps_hat at s, where x is known, in place of eps_hat at t. The first step starts from
    clean data, where there is no eps_hat, and uses eps_hat at the first level. A step is one network evaluation.

        latent = encode(denoiser, x0, num_steps=100)
        x0_again = decode(denoiser, latent, num_steps=100)

    Args:
        denoiser: the model; on a chain the steps visit its own levels.
        x0: data, in [-1, 1] for images.
        label: the condition of each example, such as class labels `[B]`, for a network that is told one.
        num_steps, spacing: the number of steps, and how they are spread over the levels, as for a sampler.
        clip_x0: whether to clip x0_hat to [-1, 1] in every step, and eps_hat accordingly; for images. A network that
            predicts eps needs the clipping where almost nothing of the data is left, as at the end of a cosine
            schedule.
    """
    times = denoiser.perturbation.timesteps(num_steps, spacing)[::-1]
    return _follow(denoiser, x0, label, Row(s=times[1:], t=np.maximum(times[:-1], times[1])), clip_x0)


def decode(
    denoiser: Denoiser,
    x_T: Float[Array | np.ndarray, " b *d"],
    label: Value = None,
    *,
    num_steps: int = 250,
    spacing: str = "uniform",
    clip_x0: bool = False,
) -> Float[Array, " b *d"]:
    """Returns the data x_0 of a latent x_T, by deterministic DDIM (Song, Meng & Ermon 2021, eq. 12 with sigma = 0).

    The arguments are those of `encode`.
    """
    times = denoiser.perturbation.timesteps(num_steps, spacing)
    return _follow(denoiser, x_T, label, Row(s=times[1:], t=times[:-1]), clip_x0)


def interpolate(
    denoiser: Denoiser,
    first: Float[Array | np.ndarray, " b *d"],
    second: Float[Array | np.ndarray, " b *d"],
    num_images: int = 10,
    label: Value = None,
    *,
    num_steps: int = 250,
    spacing: str = "uniform",
    clip_x0: bool = False,
) -> Float[Array, " b n *d"]:
    """Returns images `[B, num_images, ...]` from `first` to `second`, decoded from the `slerp` of their latents.

    Song, Meng & Ermon 2021, section 5.3, interpolate these deterministic latents; Ho et al. 2020, section 4.3,
    interpolate stochastic ones.

    Args:
        num_images: how many images for each pair. The first and the last of them are the two ends, decoded like the
            others.
        label: the condition of the pairs, such as class labels `[B]`, for a network that is told one; it holds for the
            whole way.
        num_steps, spacing, clip_x0: as in `encode`.
    """
    how = {"num_steps": num_steps, "spacing": spacing, "clip_x0": clip_x0}
    start, end = (encode(denoiser, x0, label, **how) for x0 in (first, second))
    way = [decode(denoiser, slerp(start, end, fraction), label, **how) for fraction in np.linspace(0, 1, num_images)]
    return jnp.stack(way, axis=1)


def slerp(
    a: Float[Array | np.ndarray, " b *d"], b: Float[Array | np.ndarray, " b *d"], fraction: float
) -> Float[Array, " b *d"]:
    """Returns the spherical interpolation of each example: (sin((1 - f) angle) a + sin(f angle) b) / sin(angle).

    The angle is the one between a and b (Shoemake 1985; Song, Meng & Ermon 2021, appendix D.5). Where a and b point the
    same way, the interpolation is linear.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    unit_a, unit_b = (x.reshape(len(x), -1) / jnp.linalg.norm(x.reshape(len(x), -1), axis=1)[:, None] for x in (a, b))
    # The angle comes from the tangent of its half, since its cosine is rounded too far where the angle is small.
    angle = 2 * jnp.arctan2(jnp.linalg.norm(unit_a - unit_b, axis=1), jnp.linalg.norm(unit_a + unit_b, axis=1))
    angle = jnp.maximum(angle, 1e-6)
    of_a, of_b = (jnp.sin(part * angle) / jnp.sin(angle) for part in (1 - fraction, fraction))
    return expand(of_a, a) * a + expand(of_b, b) * b


def _follow(denoiser, x, label, rows, clip_x0):
    """Returns x after DDIM's steps along the given rows: a step goes to level s, and the network is read at level t."""
    denoiser = denoiser if label is None else denoiser.given(label)
    kind = np.int32 if np.issubdtype(rows.s.dtype, np.integer) else np.float32
    rows = Row(*(times.astype(kind) for times in rows))
    return _scan(DDIM(clip_x0=clip_x0), denoiser, jnp.asarray(x, jnp.float32), rows)


@functools.partial(jax.jit, static_argnames="sampler")
def _scan(sampler, denoiser, x, rows):
    return jax.lax.scan(lambda x, row: (sampler.step(denoiser, x, row, None), None), x, rows)[0]
