"""Weightings: how much each noise level counts, as multipliers w(t) of ‖eps_hat - eps‖².

Each weighting is a function (perturbation, t, **options) -> w, shaped like t. A new one is a function and a line in
`WEIGHTINGS`, or a function in a file of your own that a config names "module:function".

A paper's weight of another error becomes a weight of the error in eps through x0_hat - x0 = -(sigma / alpha)
(eps_hat - eps). It is divided by SNR = alpha² / sigma² for x0, by sigma² for the score, and by alpha² for v (where
alpha² + sigma² = 1). The prediction type of the network does not matter, since the loss uses the eps that the network's
output stands for.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from unified_diffusion.objectives.options import check_number, check_options
from unified_diffusion.perturbations import Perturbation
from unified_diffusion.perturbations.base import Time
from unified_diffusion.registry import choose, lookup


def simple(perturbation, t):
    """w = 1: DDPM's L_simple, and NCSN's denoising score matching with lambda(sigma) = sigma².

    Ho et al. 2020, eq. 14; Song & Ermon 2019, eq. 5 and 6.
    """
    return jnp.ones_like(perturbation.alpha(t))


def vlb(perturbation, t, variance="large"):
    """w = a² sigma_t² / alpha_t² / (2 var): the weight of the variational bound.

    Here a is the coefficient of x0 in the posterior mean, and var is "large" (the variance of the transition, DDPM's
    beta) or "small" (the variance of the posterior, beta-tilde). w ‖eps_hat - eps‖², summed over the dimensions, is
    L_{t-1} in nats for a reverse step of that fixed variance. On DDPM's chain w is
    beta² / (2 var (1 - beta) (1 - alpha_bar)). At t = 1, where the posterior's variance is 0, "small" takes that of
    t = 2, as DDPM does. Ho et al. 2020, eq. 12.
    """
    below = perturbation.below(t)
    signal, _ = perturbation.posterior_coefficients(below, t)
    mean_error = signal * perturbation.sigma(t) / perturbation.alpha(t)
    return mean_error**2 / (2 * perturbation.reverse_variance(below, t, variance))


def dsm(perturbation, t):
    """w = 1 / sigma²: the squared error of the score without a weight, ‖score_hat - score‖². Vincent 2011, eq. 11."""
    return 1 / perturbation.sigma(t) ** 2


def x0(perturbation, t):
    """w = 1 / SNR: the squared error of x0 without a weight, ‖x0_hat - x0‖². Salimans & Ho 2022, section 4."""
    return 1 / _snr(perturbation, t)


def v(perturbation, t):
    """w = 1 + 1 / SNR: the squared error of v, which is "SNR + 1" on the x0 error. Salimans & Ho 2022, section 4.

    v = alpha eps - sigma x0 belongs to a process with alpha² + sigma² = 1. On any other process, w is that of the
    process of this kind with the same SNR.
    """
    return 1 + 1 / _snr(perturbation, t)


def truncated_snr(perturbation, t):
    """w = max(1, 1 / SNR), "truncated SNR": max(SNR, 1) on the x0 error. Salimans & Ho 2022, section 4."""
    return jnp.maximum(1, 1 / _snr(perturbation, t))


def min_snr(perturbation, t, gamma=5.0):
    """w = min(1, gamma / SNR): min(SNR, gamma) on the x0 error. Hang et al. 2023, section 3.4.

    On the error of v the weight is min(SNR, gamma) / (SNR + 1).
    """
    return jnp.minimum(1, gamma / _snr(perturbation, t))


def soft_min_snr(perturbation, t, gamma=4.0):
    """w = gamma / (SNR + gamma), a smooth `min_snr`: 1 / (sigma² / alpha² + 1 / gamma) on the x0 error.

    Crowson et al. 2024 (HDiT), the paragraph on Soft-Min-SNR, where alpha = 1 and gamma = 4 = 1 / sigma_data².
    """
    return gamma / (_snr(perturbation, t) + gamma)


def p2(perturbation, t, k=1.0, gamma=1.0):
    """w = 1 / (k + SNR)^gamma, "perception prioritized". Choi et al. 2022, eq. 8, with `simple` as its lambda.

    The paper also uses gamma = 0.5. As gamma goes to 0, w becomes `simple`.
    """
    return (k + _snr(perturbation, t)) ** -gamma


def edm(perturbation, t, sigma_data=0.5):
    """w = (s² + sigma_data²) / sigma_data² where s = sigma / alpha: EDM's network has error weight 1 before c_out.

    On the x0 error the weight is (s² + sigma_data²) / (s sigma_data)². Karras et al. 2022, table 1, for data in
    [-1, 1], as here. EDM also draws its own noise levels, which is the time sampler "lognormal".
    """
    return 1 + 1 / (_snr(perturbation, t) * sigma_data**2)


def sigmoid(perturbation, t, b=0.0):
    """w = sigmoid(b - lambda) (-dlambda/dt), where lambda = log SNR and t counts levels.

    Larger pictures take a smaller b.
    Kingma & Gao 2023, section 2, without the factor ½ of their loss. Hoogeboom et al. 2024 write it as
    exp(b) sigmoid(lambda - b) (-dlambda/dt) on the x0 error. Because of the slope, it is the same loss over lambda on
    every perturbation.
    """
    change = -perturbation.level_width * perturbation.log_snr_slope(t)
    return change / (1 + _snr(perturbation, t) * jnp.exp(-jnp.float32(b)))


def likelihood(perturbation, t):
    """w = ½ (-dlambda/dt) = ½ g² / sigma², the limit of `vlb` for infinitely many levels: ½ g² ‖score_hat - score‖².

    t counts levels, as in `vlb`, so that a sum over levels is in nats. The ratio of `likelihood` and `vlb` goes to 1 at
    every t / num_steps as num_steps grows. Song, Durkan, Murray & Ermon 2021, theorem 1, where the weight of the
    score's squared error is g²; Kingma et al. 2021, section 4.
    """
    return -perturbation.level_width * perturbation.log_snr_slope(t) / 2


WEIGHTINGS = {
    "simple": simple,
    "vlb": vlb,
    "dsm": dsm,
    "x0": x0,
    "v": v,
    "truncated_snr": truncated_snr,
    "min_snr": min_snr,
    "soft_min_snr": soft_min_snr,
    "p2": p2,
    "edm": edm,
    "sigmoid": sigmoid,
    "likelihood": likelihood,
}


def _check_positive(owner, option, value):
    check_number(owner, option, value, above=0)


def _check_variance(owner, option, value):
    del owner
    choose(value, ("large", "small"), option)


# Options whose values are checked where a weighting is chosen, before anything is trained.
_CHECKS = (
    (vlb, "variance", _check_variance),
    (min_snr, "gamma", _check_positive),
    (soft_min_snr, "gamma", _check_positive),
    (p2, "k", _check_positive),
    (p2, "gamma", _check_positive),
    (edm, "sigma_data", _check_positive),
    (sigmoid, "b", check_number),
)


def weighting(name, **options) -> Callable[[Perturbation, Time], Any]:
    """Returns the weighting called `name` with these options, a function of (perturbation, t).

    Args:
        name: a name in `WEIGHTINGS`, "module:function", or the function itself.

    Raises:
        UserError: an unknown weighting or option, or a value that the weighting does not take.
    """
    function = name if callable(name) else lookup(WEIGHTINGS, name, "weighting")
    check_options(function, options, "weighting", name, given=2)
    for owner, option, check in _CHECKS:
        if function is owner and option in options:
            check(f"weighting {owner.__name__!r}", option, options[option])

    def weigh(perturbation, t):
        return function(perturbation, t, **options)

    return weigh


def weight(name: str, perturbation: Perturbation, t: Time, **options) -> Float[Array, "..."]:
    """Returns w(t) of a weighting by name, shaped like t.

    Example:
        weight("vlb", DDPM(1000), np.arange(1, 1001), variance="small")
    """
    return weighting(name, **options)(perturbation, t)


def _snr(perturbation, t):
    """Returns SNR(t) from the scales, since exp(log_snr) is less exact: rounding an exponent of 10 costs 5e-7."""
    return (perturbation.alpha(t) / perturbation.sigma(t)) ** 2
