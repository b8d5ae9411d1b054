"""Images as latents: DDIM's ODE run up to the prior and down again, and the way between two images."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.perturbations import expand


def encode(
    denoiser: Denoiser,
    x0: Float[Array | np.ndarray, " b *d"],
    label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    *,
    num_steps: int = 250,
    spacing: str = "uniform",
) -> Float[Array, " b *d"]:
    """x_T of data: deterministic DDIM's step taken upwards, one network evaluation each. Song, Meng & Ermon 2021, 4.3.

    A step from s to t takes eps_hat at s, where x is known, in place of t. The first one starts from clean data, where
    there is no eps_hat, and takes it at the first level.

    Args:
        denoiser: the model; a chain visits its own levels.
        x0: data, in [-1, 1] for images.
        label: class labels `[B]` for a conditional network.
        num_steps, spacing: as those of a sampler.
    """
    times = denoiser.perturbation.timesteps(num_steps, spacing)[::-1]
    return _steps(denoiser, x0, label, times[:-1], times[1:], np.maximum(times[:-1], times[1]))


def decode(
    denoiser: Denoiser,
    x_T: Float[Array | np.ndarray, " b *d"],
    label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    *,
    num_steps: int = 250,
    spacing: str = "uniform",
) -> Float[Array, " b *d"]:
    """x_0 of a latent at the last level: deterministic DDIM. Song, Meng & Ermon 2021, eq. 12 with sigma = 0.

    The arguments are those of `encode`.
    """
    times = denoiser.perturbation.timesteps(num_steps, spacing)
    return _steps(denoiser, x_T, label, times[:-1], times[1:], times[:-1])


def interpolate(
    denoiser: Denoiser,
    first: Float[Array | np.ndarray, " b *d"],
    second: Float[Array | np.ndarray, " b *d"],
    num_images: int = 10,
    label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    *,
    num_steps: int = 250,
    spacing: str = "uniform",
) -> Float[Array, " b n *d"]:
    """Images on the way from `first` to `second`, by `slerp` of their latents; both ends are decoded, too.

    Ho et al. 2020, section 4.3, interpolate stochastic latents; Song, Meng & Ermon 2021, section 5.3, these.

    Args:
        num_images: of each pair, the ends among them.
        label: class labels of the pairs `[B]`, for a conditional network; one for the whole way.
    """
    how = {"num_steps": num_steps, "spacing": spacing}
    ends = [encode(denoiser, end, label, **how) for end in (first, second)]
    way = [decode(denoiser, slerp(*ends, fraction), label, **how) for fraction in np.linspace(0, 1, num_images)]
    return jnp.stack(way, axis=1)


def slerp(
    a: Float[Array | np.ndarray, " b *d"], b: Float[Array | np.ndarray, " b *d"], fraction: float
) -> Float[Array, " b *d"]:
    """(sin((1 - f) angle) a + sin(f angle) b) / sin(angle) of each example, `angle` being the one between a and b.

    Shoemake 1985; Song, Meng & Ermon 2021, appendix D.5. Where they point the same way, it is the straight line.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    unit_a, unit_b = (x.reshape(len(x), -1) / jnp.linalg.norm(x.reshape(len(x), -1), axis=1)[:, None] for x in (a, b))
    # The angle by its half's tangent: its cosine is rounded too far where it is small.
    angle = 2 * jnp.arctan2(jnp.linalg.norm(unit_a - unit_b, axis=1), jnp.linalg.norm(unit_a + unit_b, axis=1))
    angle = jnp.maximum(angle, 1e-6)
    weights = (jnp.sin(part * angle) / jnp.sin(angle) for part in (1 - fraction, fraction))
    return sum(expand(weight, x) * x for weight, x in zip(weights, (a, b), strict=True))


def _steps(denoiser, x, label, starts, stops, read):
    """Steps from each of `starts` to each of `stops`, with the network read at level `read`."""
    denoiser = denoiser if label is None else denoiser.given(jnp.asarray(label))
    rows = (
        np.asarray(t, np.int32 if np.issubdtype(t.dtype, np.integer) else np.float32) for t in (starts, stops, read)
    )
    return _scan(denoiser, jnp.asarray(x, jnp.float32), tuple(rows))


@jax.jit
def _scan(denoiser, x, rows):
    process = denoiser.perturbation

    def step(x, row):
        start, stop, read = row
        prediction = denoiser(x, read)
        return process.alpha(stop) * prediction.x0 + process.sigma(stop) * prediction.eps, None

    return jax.lax.scan(step, x, rows)[0]
