"""The variational bound as an objective, one random term of it at a time.

DDPM's Table 2 (Ho et al. 2020) compares two predictions and three losses. Its rows as configs:

| loss | config.objective | config.denoiser |
|---|---|---|
| L, learned diagonal Sigma | name=variational, variance=learned | prediction=mean or eps, variance=learned |
| L, fixed isotropic Sigma | name=variational, variance=large | prediction=mean or eps |
| ‖mean - mean_hat‖² | name=denoising, weighting=unified_diffusion.objectives.variational:mean_error | prediction=mean |
| ‖eps - eps_hat‖², L_simple | name=denoising, weighting=simple | prediction=eps |
"""

import dataclasses

import jax.numpy as jnp

from unified_diffusion.objectives.base import Objective
from unified_diffusion.objectives.denoising import REDUCTIONS
from unified_diffusion.objectives.weightings import weight
from unified_diffusion.registry import choose, lookup
from unified_diffusion.reverse import (
    VARIANCES,
    check_variance,
    divergence,
    reconstruction,
    reverse_log_variance,
    second_step,
)


def mean_error(perturbation, t):
    """Returns the weight of the posterior mean's squared error, DDPM's loss for a network that predicts the mean.

    w = a² sigma_t² / alpha_t², where a is the coefficient of x0 in the mean. The weighting `vlb` is this divided by
    2 var. Ho et al. 2020, eq. 8.
    """
    signal, _ = perturbation.posterior_coefficients(perturbation.below(t), t)
    return (signal * perturbation.sigma(t) / perturbation.alpha(t)) ** 2


def bound_term(perturbation, prediction, x0, t, variance, discretized=True):
    """Returns L_{t-1} of each dimension in nats, or the decoder's L_0 at the first level, shaped like x0; t `[B]`."""
    below, second = perturbation.below(t), second_step([*perturbation.times[::-1], 0])
    log_variance = reverse_log_variance(perturbation, prediction, below, t, variance, second)
    inner = divergence(perturbation, prediction, x0, below, t, log_variance, second)
    last = reconstruction(prediction, x0, log_variance, discretized)
    return jnp.where(jnp.reshape(below == 0, (-1,) + (1,) * (x0.ndim - 1)), last, inner)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variational(Objective):
    """The loss T L_{t-1} at a random level t of each example.

    Its expectation is the variational bound without the prior's term L_T, which trains nothing. This holds for a time
    sampler that is uniform or re-weights: "uniform", "low_discrepancy" or "importance". For a fixed variance the loss
    is T times `Denoising(weighting="vlb")`, except for a constant of t and for the decoder at the first level.
    Ho et al. 2020, eq. 5; the L_vlb of Nichol & Dhariwal 2021, eq. 4.

    Args:
        variance: of the reverse step: "large", "small", or "learned" for a denoiser of learned variance.
        reduction: "mean", nats per dimension, or "sum", nats per example.
        discretized: the decoder gives the probability of one of 256 grey levels; false gives a density, for points.
        time_sampler, time_sampler_options: as in `Objective`; the authors of L_vlb take "importance".

    Raises:
        UserError: an unknown name or option; when called, a denoiser of fixed variance where a learned one is wanted.
    """

    variance: str = "large"
    reduction: str = "mean"
    discretized: bool = True

    def __post_init__(self):
        super().__post_init__()
        choose(self.variance, VARIANCES, "variance")
        lookup(REDUCTIONS, self.reduction, "reduction")

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        """Returns (loss `[B]`, metrics) at given levels and noise; the metric "error" is the term without its T."""
        check_variance(denoiser, self.variance, "objective variational")
        process = denoiser.perturbation
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        nats = bound_term(process, prediction, x0, t, self.variance, self.discretized)
        term = lookup(REDUCTIONS, self.reduction, "reduction")(nats, axis=tuple(range(1, nats.ndim)))
        return process.num_steps * term, {"t": t, "error": term}

    def weight(self, perturbation, t):
        """Returns T times the weighting `vlb`; for a learned variance, which depends on x_t, that of the large one."""
        variance = "large" if self.variance == "learned" else self.variance
        return perturbation.num_steps * weight("vlb", perturbation, t, variance=variance)
