"""Weightings: how much each noise level counts, as multipliers w(t) of ‖eps_hat - eps‖².

Each is a function (perturbation, t, **options) -> w, shaped like t. A new one is a function and a line in `WEIGHTINGS`,
or a function in one's own file, named "module:function".

A paper's weight of another error becomes one of eps through x0_hat - x0 = -(sigma / alpha) (eps_hat - eps): it is
divided by SNR = alpha² / sigma² for x0, by sigma² for the score, by alpha² for v (where alpha² + sigma² = 1). What the
network puts out plays no part, since the loss is of the eps that its output stands for.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unified_diffusion.objectives.options import check_number, check_options
from unified_diffusion.perturbations import DDPM, Perturbation
from unified_diffusion.perturbations.base import Time
from unified_diffusion.registry import lookup


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
    below = perturbation.below(t)
    signal, _ = perturbation.posterior_coefficients(below, t)
    mean_error = signal * perturbation.sigma(t) / perturbation.alpha(t)
    return mean_error**2 / (2 * perturbation.reverse_variance(below, t, variance))


def dsm(perturbation, t):
    """w = 1 / sigma²: denoising score matching without a weight, ‖score_hat - score‖². Vincent 2011, eq. 11."""
    return 1 / perturbation.sigma(t) ** 2


def x0(perturbation, t):
    """w = 1 / SNR: the squared error of x0 without a weight, ‖x0_hat - x0‖². Salimans & Ho 2022, section 4."""
    return 1 / _snr(perturbation, t)


def v(perturbation, t):
    """w = 1 + 1 / SNR: the squared error of v, "SNR + 1" as a weight of the x0 error. Salimans & Ho 2022, section 4.

    v = alpha eps - sigma x0 is that of a process with alpha² + sigma² = 1; any other is read as the one of its SNR.
    """
    return 1 + 1 / _snr(perturbation, t)


def truncated_snr(perturbation, t):
    """w = max(1, 1 / SNR), "truncated SNR": max(SNR, 1) ‖x0_hat - x0‖². Salimans & Ho 2022, section 4."""
    return jnp.maximum(1, 1 / _snr(perturbation, t))


def min_snr(perturbation, t, gamma=5.0):
    """w = min(1, gamma / SNR): min(SNR, gamma) ‖x0_hat - x0‖². Hang et al. 2023, section 3.4.

    In v-space it is min(SNR, gamma) / (SNR + 1).
    """
    check_number("weighting 'min_snr'", "gamma", gamma, above=0)
    return jnp.minimum(1, gamma / _snr(perturbation, t))


def soft_min_snr(perturbation, t, gamma=4.0):
    """w = gamma / (SNR + gamma), a smooth `min_snr`: ‖x0_hat - x0‖² / (sigma² / alpha² + 1 / gamma).

    Crowson et al. 2024 (HDiT), its paragraph on Soft-Min-SNR, where alpha = 1 and gamma = 4 = 1 / sigma_data².
    """
    check_number("weighting 'soft_min_snr'", "gamma", gamma, above=0)
    return gamma / (_snr(perturbation, t) + gamma)


def p2(perturbation, t, k=1.0, gamma=1.0):
    """w = 1 / (k + SNR)^gamma, "perception prioritized". Choi et al. 2022, eq. 8, with `simple` as its lambda.

    The paper's other setting is gamma = 0.5; gamma → 0 is `simple`.
    """
    check_number("weighting 'p2'", "k", k, above=0)
    check_number("weighting 'p2'", "gamma", gamma, above=0)
    return (k + _snr(perturbation, t)) ** -gamma


def edm(perturbation, t, sigma_data=0.5):
    """w = (s² + sigma_data²) / sigma_data², s = sigma / alpha: the error of EDM's network, before c_out, has weight 1.

    (s² + sigma_data²) / (s sigma_data)² ‖x0_hat - x0‖². Karras et al. 2022, table 1. Data in [-1, 1], as here. EDM also
    draws its own noise levels: time sampler "lognormal".
    """
    check_number("weighting 'edm'", "sigma_data", sigma_data, above=0)
    return 1 + 1 / (_snr(perturbation, t) * sigma_data**2)


def sigmoid(perturbation, t, b=0.0):
    """w = sigmoid(b - lambda) (-dlambda/dt), lambda = log SNR; t counts levels. A smaller b is for larger pictures.

    Kingma & Gao 2023, section 2, but for the factor ½ of their loss; as exp(b) sigmoid(lambda - b) (-dlambda/dt) on the
    x0 error, Hoogeboom et al. 2024. The slope makes it the same loss over lambda on every ladder.
    """
    check_number("weighting 'sigmoid'", "b", b)
    change = -perturbation.level_width * perturbation.log_snr_slope(t)
    return change / (1 + _snr(perturbation, t) * jnp.exp(-jnp.float32(b)))


def likelihood(perturbation, t):
    """w = ½ (-dlambda/dt) = ½ g² / sigma², so ½ g² ‖score_hat - score‖²: `vlb` of infinitely many levels.

    t counts levels, as in `vlb`, so that a sum over levels is in nats; the ratio of the two goes to 1 at every
    t / num_steps as num_steps grows. Song, Durkan, Murray & Ermon 2021, theorem 1, where the weight of the score's
    squared error is g²; Kingma et al. 2021, section 4.
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


def weighting(name, **options):
    """The weighting called `name` (or the callable itself), with its options: a function of (perturbation, t).

    Raises:
        UserError: an unknown weighting or option, or a value that the weighting does not take.
    """
    function = name if callable(name) else lookup(WEIGHTINGS, name, "weighting")
    check_options(function, options, "weighting", name, given=2)

    def weigh(perturbation, t):
        return function(perturbation, t, **options)

    if function in WEIGHTINGS.values():
        # A weighting checks its options' values where it uses them, so it is used once here; nothing is computed.
        jax.eval_shape(lambda: weigh(DDPM(2), 1))
    return weigh


def weight(name: str, perturbation: Perturbation, t: Time, **options) -> Float[Array, "..."]:
    """w(t) of a weighting by name, shaped like t: weight("vlb", perturbation, t, variance="small")."""
    return weighting(name, **options)(perturbation, t)


def _snr(perturbation, t):
    """SNR(t), by the scales: in exp(log_snr) a rounding of the exponent 10 would be 5e-7 of the value."""
    return (perturbation.alpha(t) / perturbation.sigma(t)) ** 2
