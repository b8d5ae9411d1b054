"""Clipping, by which a sampler of images keeps what it predicts in their range."""

import jax.numpy as jnp


def x0_and_eps(denoiser, x_t, t, clip_x0):
    """(x0_hat, eps_hat) of x_t; with `clip_x0`, x0_hat in [-1, 1] and the eps_hat that makes up x_t with it.

    Where there is hardly any data left in x_t, what x0_hat is off by is eps_hat's error times sigma / alpha.
    """
    x0, eps, *_ = denoiser(x_t, t)
    if clip_x0:
        x0 = jnp.clip(x0, -1, 1)
        eps = (x_t - denoiser.perturbation.alpha(t) * x0) / denoiser.perturbation.sigma(t)
    return x0, eps
