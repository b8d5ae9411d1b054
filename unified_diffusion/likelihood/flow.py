"""The exact log-likelihood of data by the probability-flow ODE."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from unified_diffusion import flow
from unified_diffusion.conditions import Value
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.gaussian import bits_per_dim, log_density
from unified_diffusion.registry import choose

TRACES = ("hutchinson", "exact")
DEQUANTIZATIONS = ("centred", "shifted", "none")


class FlowLikelihood(NamedTuple):
    """The likelihood of examples by the probability flow.

    Attributes:
        log_prob: the log density at the (dequantised) example, in nats and data units, `[B]`.
        bits_per_dim: an upper bound of -log2 of the probability of the grey levels, per dimension, `[B]`; where nothing
            was dequantised, -log2 of the density, per dimension.
        latent: the point that the flow takes the example to, at the noisiest level, `[B, ...]`.
        evaluations: the number of network evaluations, `[B]`. Each comes with `num_probes` derivatives along a
            direction, or, for the exact trace, with as many as there are dimensions.
    """

    log_prob: Float[Array, " b"]
    bits_per_dim: Float[Array, " b"]
    latent: Float[Array, " b *d"]
    evaluations: Int[Array, " b"]


def flow_likelihood(
    denoiser: Denoiser,
    x0: Float[Array | np.ndarray, " b *d"],
    key: Key[Array, ""] | Key[Array, " b"],
    label: Value = None,
    *,
    trace: str = "hutchinson",
    num_probes: int = 1,
    dequantization: str = "centred",
    solver: str = "tsit5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
) -> FlowLikelihood:
    """The log-likelihood log p(x0) = log prior(x_T) + the integral of the divergence of the flow.

        likelihood = flow_likelihood(denoiser, x0, jax.random.key(0))
        likelihood.bits_per_dim  # one number per example

    Song et al. 2021, section 4.3 and appendix D.2. The density is that of x_t / alpha(t) at the first level above 0,
    where the flow ends, so the data of the model carry the noise of the first level. A chain is read as its continuous
    limit. The trace needs only forward derivatives along directions, and so no gradient of a convolution.

    Args:
        denoiser: the model.
        x0: data `[B, ...]`; images of 256 grey levels k / 127.5 - 1 where they are dequantised.
        key: one key, or one key per example `[B]`, so that the draws of an example depend on its own key alone.
        label: the condition of each example, such as class labels `[B]`, for a network that is told one.
        trace: "hutchinson" estimates the divergence without bias from `num_probes` vectors of random signs, drawn once
            for the whole flow (Grathwohl et al. 2019, section 3.1); "exact" takes one derivative per dimension.
        num_probes: the number of vectors of random signs.
        dequantization: "centred" adds uniform noise of one grey level's width around the level, for a network trained
            on the grey levels themselves; "shifted" takes (k + u) / 128 - 1, for a network trained with
            `training.dequantize`; "none" takes x0 as points. The mean of the log density over the noise bounds the log
            probability of the grey levels from below. Theis et al. 2016, section 3.1.
        solver, rtol, atol, max_steps: as in `samplers.ProbabilityFlow`; the tolerance of the integral is in nats per
            dimension.

    Raises:
        UserError: an unknown trace, dequantization or solver; no probes; or an example whose flow needs more steps.
    """
    choose(trace, TRACES, "trace")
    choose(dequantization, DEQUANTIZATIONS, "dequantization")
    flow.check(solver, rtol, atol, max_steps)
    if num_probes < 1:
        raise UserError(f"num_probes = {num_probes}: take at least 1")
    x0 = jnp.asarray(x0, jnp.float32)
    keys = key if key.ndim else jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(x0)))
    denoiser = denoiser if label is None else denoiser.given(label)
    denoiser = denoiser.under(denoiser.perturbation.continuous)
    points, cells = _dequantized(x0, keys, dequantization)
    probes = 0 if trace == "exact" else num_probes
    numbers = {"solver": solver, "rtol": float(rtol), "atol": float(atol), "max_steps": max_steps}
    log_prob, latent, evaluations, finished = _integrate(denoiser, points, keys, probes, tuple(numbers.items()))
    flow.refuse_unfinished(finished, max_steps)
    bits = bits_per_dim(-log_prob, x0[0].size) + np.log2(cells)
    return FlowLikelihood(log_prob, bits, latent, evaluations)


def _dequantized(x0, keys, dequantization):
    """The dequantised points, and the number of grey levels per data unit.

    The density at a point, divided by this number in each dimension, bounds the probability of the grey levels.
    """
    if dequantization == "none":
        return x0, 1.0
    noise = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), x0.shape[1:]))(keys)
    if dequantization == "centred":
        return x0 + (noise - 0.5) / 127.5, 127.5
    return (jnp.rint((x0 + 1) * 127.5) + noise) / 128 - 1, 128.0


@functools.partial(jax.jit, static_argnames=("num_probes", "how"))
def _integrate(denoiser, x0, keys, num_probes, how):
    """The values (log density, latent, evaluations, finished) of each example; `num_probes` = 0 is the exact trace."""
    process, shape = denoiser.perturbation, x0.shape[1:]
    first, last = (flow.angle(process, t) for t in process.times[[0, -1]])
    scale, size = process.exact(process.times[-1]).norm, int(np.prod(shape))
    if num_probes:
        probes = jax.vmap(lambda key: _signs(jax.random.fold_in(key, 1), (num_probes, *shape)), out_axes=1)(keys)
    else:
        probes = jnp.eye(size).reshape(size, 1, *shape)

    def field(state, a, args):
        denoiser, probes = args
        y, _ = state
        rate, push = jax.linearize(lambda y: flow.velocity(denoiser, y, a), y)

        def along(probe):
            probe = jnp.broadcast_to(probe, y.shape)
            return jnp.sum((probe * push(probe)).reshape(len(y), -1), axis=1)

        return rate, jnp.sum(jax.lax.map(along, probes), axis=0) / (max(num_probes, 1) * size)

    start = (np.cos(first) * x0, jnp.zeros(len(x0)))
    # The integral is per dimension, so that the tolerances mean the same for it as for a pixel.
    (y, integral), evaluations, finished = flow.solve(field, start, first, last, (denoiser, probes), **dict(how))
    prior = log_density(y, 0.0, 2 * np.log(process.prior_sigma / scale))
    prior = jnp.sum(prior.reshape(len(y), -1), axis=1)
    return prior + size * (integral + np.log(np.cos(first))), scale * y, evaluations, finished


def _signs(key, shape):
    return jax.random.rademacher(key, shape, jnp.float32)
