"""The variational bound of a denoiser's reverse chain."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Real

from unified_diffusion.conditions import Value
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.gaussian import bits_per_dim
from unified_diffusion.reverse import check_variance, divergence, reconstruction, reverse_log_variance, second_step


class Bound(NamedTuple):
    """The variational bound of each example and its terms, in bits per dimension.

    In expectation over the noise, -log p(x0) is at most `total` = prior + the sum of diffusion over its columns +
    reconstruction. Column k of the arrays `[B, T]` is the step down from level t[k], where t rises: for the full chain
    t[k] = k + 1, and column k of `diffusion` is DDPM's L_k. Column 0 of `diffusion` is zero, since the last step is the
    decoder, whose term is `reconstruction`.

    Attributes:
        prior: the term L_T, KL(q(x_T | x0) || prior), `[B]`.
        diffusion: the terms L_{t-1}, KL(q(x_s | x_t, x0) || p(x_s | x_t)), `[B, T]`.
        reconstruction: the term L_0, -log p(x0 | x_t) of the last step, `[B]`.
        total: the sum of all terms, `[B]`.
        t: the level that each column steps down from, `[T]`.
        x0_error: the mean squared error of x0_hat at that level, in squared data units, `[B, T]`: the distortion of x0
            as it is known once x_t has been sent. Ho et al. 2020, section 4.3.
    """

    prior: Float[Array, " b"]
    diffusion: Float[Array, " b t"]
    reconstruction: Float[Array, " b"]
    total: Float[Array, " b"]
    t: Real[np.ndarray, " t"]
    x0_error: Float[Array, " b t"]


def variational_bound(
    denoiser: Denoiser,
    x0: Float[Array | np.ndarray, " b *d"],
    key: Key[Array, ""] | Key[Array, " b"],
    label: Value = None,
    *,
    variance: str | None = None,
    num_steps: int | None = None,
    clip_x0: bool = False,
    discretized: bool = True,
    progress=None,
) -> Bound:
    """The bound L_T + sum of L_{t-1} + L_0 of each example, each term from one draw of x_t. Ho et al. 2020, eq. 5.

        bound = variational_bound(denoiser, x0, jax.random.key(0))
        bound.total  # bits per dimension, one number per example

    The network is evaluated once a step, and only the terms are kept in memory.

    Args:
        denoiser: the model, and the perturbation that is its chain.
        x0: data `[B, ...]`; images of 256 grey levels k / 127.5 - 1 if `discretized`.
        key: one key, or one key per example `[B]`, so that the terms of an example depend on its own key alone and not
            on its batch. The noise at a level is drawn from fold_in(key, number of the level), in a chain of any
            length.
        label: the condition of each example, such as class labels `[B]`, for a network that is told one.
        variance: the variance of the reverse step, "large", "small" or "learned"; None takes "learned" where the
            network learned it, and else "large". The small variance of the last step, which would be 0, is replaced by
            that of the second-last step.
        num_steps: the number of steps, evenly spread over the levels; None takes every level. The bound is that of the
            shorter chain, which is another model than the full chain, and mostly a worse one.
        clip_x0: whether x0_hat is clipped to [-1, 1] in every step, as in DDPM's published figures. The bound is then
            that of the clipped model, and for images tighter. By default x0_hat is not clipped, as in training.
        discretized: whether the last step gives the probability of one of 256 grey levels, eq. 13, or else a density,
            as points need it.
        progress: a function that is called with the number of steps done since its last call, or None.

    Raises:
        UserError: an unknown variance, one that the network has not learned, or more steps than levels.
    """
    process, x0 = denoiser.perturbation, jnp.asarray(x0, jnp.float32)
    variance = variance or ("learned" if denoiser.variance == "learned" else "large")
    check_variance(denoiser, variance, "the variational bound")
    times = process.timesteps(num_steps or process.num_steps)
    keys = key if key.ndim else jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(x0)))
    denoiser = denoiser if label is None else denoiser.given(label)
    rising = times[::-1].astype(np.int32 if np.issubdtype(times.dtype, np.integer) else np.float32)
    pieces = []
    for s, t in zip(*(_cut(part, progress is not None) for part in (rising[:-1], rising[1:])), strict=True):
        pieces.append(_terms(denoiser, x0, keys, (s, t), variance, clip_x0, discretized, second_step(times)))
        if progress:
            jax.block_until_ready(pieces[-1])
            progress(len(t))
    bits = functools.partial(bits_per_dim, dimensions=x0[0].size)
    nats, x0_error = (jnp.concatenate(parts).T for parts in zip(*pieces, strict=True))
    terms, prior = bits(nats), bits(process.prior_kl(x0))
    diffusion, last = terms.at[:, 0].set(0), terms[:, 0]
    return Bound(prior, diffusion, last, prior + jnp.sum(diffusion, axis=1) + last, rising[1:], x0_error)


@functools.partial(jax.jit, static_argnames=("variance", "clip_x0", "discretized", "second"))
def _terms(denoiser, x0, keys, steps, variance, clip_x0, discretized, second):
    """The nats and the mean squared error of x0_hat of each of the steps (s, t), both `[steps, B]`."""
    process, axes = denoiser.perturbation, tuple(range(1, x0.ndim))

    def body(_, step):
        s, t = step
        number = process.level_number(t)
        noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), x0.shape[1:]))(keys)
        prediction = denoiser(process.perturb(x0, t, noise), t)
        if clip_x0:
            prediction = prediction._replace(x0=jnp.clip(prediction.x0, -1, 1))
        log_variance = jnp.broadcast_to(
            reverse_log_variance(process, prediction, s, t, variance, second), prediction.x0.shape
        )
        nats = jax.lax.cond(
            s == 0,
            lambda: reconstruction(prediction, x0, log_variance, discretized),
            lambda: divergence(process, prediction, x0, s, t, log_variance, second),
        )
        return None, (jnp.sum(nats, axes), jnp.mean((prediction.x0 - x0) ** 2, axes))

    return jax.lax.scan(body, None, steps)[1]


def _cut(array, cut):
    """Cuts an array into about twenty equal pieces, if it can be and `cut` is true; one compilation serves them all."""
    number = next((n for n in range(25, 9, -1) if len(array) % n == 0), 1) if cut else 1
    return np.split(array, number)
