"""Weightings: how much each noise level counts, as multipliers w(t) of ‖eps_hat - eps‖².

Each is a function (perturbation, t, **options) -> w, shaped like t. A new one is a function and a line in `WEIGHTINGS`,
or a function in one's own file, named "module:function".
"""

import inspect

import jax.numpy as jnp
from jaxtyping import Array, Float

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import Perturbation
from unified_diffusion.perturbations.base import Time
from unified_diffusion.registry import lookup, suggest


def simple(perturbation, t):
    """w = 1: DDPM's L_simple, and NCSN's denoising score matching with lambda(sigma) = sigma².

    Ho et al. 2020, eq. 14; Song & Ermon 2019, eq. 5 and 6.
    """
    return jnp.ones_like(perturbation.alpha(t))


def vlb(perturbation, t, variance="large"):
    """The bound's own weight: w ‖eps_hat - eps‖² (summed) is L_{t-1} in nats for a reverse step of fixed variance.

    w = a² sigma_t² / alpha_t² / (2 var), with a the x0 coefficient of the posterior mean, and var "large" (the
    transition's, DDPM's beta) or "small" (the posterior's, beta-tilde). On DDPM's chain it is
    beta² / (2 var (1 - beta) (1 - alpha_bar)). At t = 1, where the posterior's variance is 0, "small" takes the one of
    t = 2, as DDPM does. Ho et al. 2020, eq. 12.
    """
    signal, _ = perturbation.posterior_coefficients(t - 1, t)
    mean_error = signal * perturbation.sigma(t) / perturbation.alpha(t)
    return mean_error**2 / (2 * perturbation.reverse_variance(t - 1, t, variance))


def dsm(perturbation, t):
    """w = 1 / sigma²: denoising score matching without a weight, ‖score_hat - score‖². Vincent 2011, eq. 11."""
    return 1 / perturbation.sigma(t) ** 2


WEIGHTINGS = {"simple": simple, "vlb": vlb, "dsm": dsm}


def weighting(name, **options):
    """The weighting called `name` (or the callable itself), with its options: a function of (perturbation, t).

    Raises:
        UserError: an unknown weighting or option.
    """
    function = name if callable(name) else lookup(WEIGHTINGS, name, "weighting")
    valid = list(inspect.signature(function).parameters)[2:]
    for option in options:
        if option not in valid:
            raise UserError(
                f"weighting {name!r} has no option {option!r}; {suggest(option, valid) if valid else 'none'}"
            )
    return lambda perturbation, t: function(perturbation, t, **options)


def weight(name: str, perturbation: Perturbation, t: Time, **options) -> Float[Array, "..."]:
    """w(t) of a weighting by name, shaped like t: weight("vlb", perturbation, t, variance="small")."""
    return weighting(name, **options)(perturbation, t)
