"""The step of the reverse chain, p(x_s | x_t) = N(posterior mean for x0_hat, variance): its variance and its cost."""

import jax.numpy as jnp

from unified_diffusion import gaussian
from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.registry import choose

VARIANCES = ("large", "small", "learned")


def check_variance(denoiser, variance, who):
    """Checks that `variance` is known, and that the network of the denoiser puts it out if it is "learned".

    Raises:
        UserError: an unknown variance, or "learned" with a denoiser of fixed variance; `who` begins the message.
    """
    choose(variance, VARIANCES, "variance")
    if variance == "learned" and denoiser.variance != "learned":
        raise UserError(
            f"{who} asks for a learned variance, but the network has no variance head: "
            "set config.denoiser.variance=learned, or take the variance large or small"
        )


def second_step(times):
    """The second-last step (s, t) of a chain with decreasing times `[steps + 1]`; None for a chain of one step."""
    return (times[-2].item(), times[-3].item()) if len(times) > 2 else None


def log_variances(perturbation, s, t, second):
    """The logarithms of the small and the large variance of the step from t to s, each shaped like t.

    For a step to s = 0 the small variance would be 0. As in DDPM, the small variance of the step `second`, a pair
    (s, t), takes its place; for a chain of one step, whose `second` is None, the large variance does. Ho et al. 2020,
    section 3.2; Nichol & Dhariwal 2021, section 3.1.
    """
    large = perturbation.transition(s, t)[1]
    last = large if second is None else perturbation.posterior_variance(*second)
    return jnp.log(jnp.where(jnp.asarray(s) == 0, last, perturbation.posterior_variance(s, t))), jnp.log(large)


def reverse_log_variance(perturbation, prediction, s, t, variance, second):
    """The log variance of the step from t to s, shaped to go with x_t: `variance` is "large", "small" or "learned".

    The logarithm of a learned variance lies between those of the small and the large variance of this step, however
    long, by the fraction that the network predicts. Nichol & Dhariwal 2021, eq. 15. For `second` see `log_variances`.
    """
    small, large = log_variances(perturbation, s, t, second)
    if variance == "learned":
        small, large = expand(small, prediction.x0), expand(large, prediction.x0)
        return small + prediction.variance_fraction * (large - small)
    return expand(large if variance == "large" else small, prediction.x0)


def divergence(perturbation, prediction, x0, s, t, log_variance, second):
    """The divergence KL(q(x_s | x_t, x0) || p(x_s | x_t)) of each dimension, in nats, shaped like x0.

    Ho et al. 2020, eq. 5 and 8. The two means differ in x0 alone, so x_t drops out of the formula.
    """
    signal = expand(perturbation.posterior_coefficients(s, t)[0], x0)
    posterior, _ = log_variances(perturbation, s, t, second)
    return gaussian.kl_divergence(signal * x0, expand(posterior, x0), signal * prediction.x0, log_variance)


def reconstruction(prediction, x0, log_variance, discretized=True):
    """The cost -log p(x0 | x_t) of the step to s = 0, for each dimension, in nats, shaped like x0.

    p is a normal distribution around x0_hat: the probability of one of 256 grey levels, Ho et al. 2020, eq. 13, or the
    density if not `discretized`.
    """
    log_prob = gaussian.discretized_log_likelihood if discretized else gaussian.log_density
    return -log_prob(x0, prediction.x0, log_variance)
