"""Clipping: a sampler of images keeps the predicted images in their range."""

import jax.numpy as jnp


def x0_and_eps(denoiser, x_t, t, clip_x0):
    """(x0_hat, eps_hat) of x_t at level t; with `clip_x0`, x0_hat is clipped to [-1, 1] and eps_hat goes with it.

    The clipped pair still makes up x_t: eps_hat = (x_t - alpha x0_hat) / sigma. Clipping matters where x_t is almost
    all noise, since there the error of x0_hat is that of eps_hat times sigma / alpha.
    """
    x0, eps, *_ = denoiser(x_t, t)
    if clip_x0:
        x0 = jnp.clip(x0, -1, 1)
        eps = (x_t - denoiser.perturbation.alpha(t) * x0) / denoiser.perturbation.sigma(t)
    return x0, eps
