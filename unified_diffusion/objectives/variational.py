"""The variational bound as an objective, one random term of it at a time.

The rows of DDPM's Table 2, of two predictions and three losses each (Ho et al. 2020), as configs:

| loss | config.objective | config.denoiser |
|---|---|---|
| L, learned diagonal Sigma | name=variational, variance=learned | prediction=mean or eps, variance=learned |
| L, fixed isotropic Sigma | name=variational, variance=large | prediction=mean or eps |
| ‖mean - mean_hat‖² | name=denoising, weighting=unified_diffusion.objectives.variational:mean_error | prediction=mean |
| ‖eps - eps_hat‖², L_simple | name=denoising, weighting=simple | prediction=eps |
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.objectives.denoising import REDUCTIONS
from unified_diffusion.objectives.time_samplers import TimeSampler, time_sampler
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
    """A weighting: the squared error of the posterior mean, DDPM's unweighted loss of a network that predicts it.

    w = a² sigma_t² / alpha_t², with a the mean's x0 coefficient; `vlb` is this over 2 var. Ho et al. 2020, eq. 8.
    """
    signal, _ = perturbation.posterior_coefficients(perturbation.below(t), t)
    return (signal * perturbation.sigma(t) / perturbation.alpha(t)) ** 2


def bound_term(perturbation, prediction, x0, t, variance, discretized=True):
    """L_{t-1} of each dimension, or at the first level the decoder's L_0, in nats, shaped like x0; t `[B]`."""
    below, second = perturbation.below(t), second_step([*perturbation.times[::-1], 0])
    log_variance = reverse_log_variance(perturbation, prediction, below, t, variance, second)
    inner = divergence(perturbation, prediction, x0, below, t, log_variance, second)
    last = reconstruction(prediction, x0, log_variance, discretized)
    return jnp.where(jnp.reshape(below == 0, (-1,) + (1,) * (x0.ndim - 1)), last, inner)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variational:
    """T L_{t-1} at a random level t of each example: unbiased for the bound without its L_T, which trains nothing.

    Unbiased, that is, with a time sampler that is uniform or re-weights: "uniform", "low_discrepancy" or "importance".
    For a fixed variance it is `Denoising(weighting="vlb")` times T, but for a constant of t and the decoder at t = 1.
    Ho et al. 2020, eq. 5; the L_vlb of Nichol & Dhariwal 2021.

    Args:
        variance: of the reverse step, "large", "small" or "learned", which takes a denoiser of learned variance.
        reduction: "mean", nats per dimension, or "sum", nats per example.
        discretized: the decoder gives the probability of a grey level of 256; if not, a density, for points.
        time_sampler, time_sampler_options: as in `WeightedLevels`; the authors of L_vlb take "importance".

    Raises:
        UserError: an unknown name or option; when called, a denoiser of fixed variance where a learned one is wanted.
    """

    variance: str = "large"
    reduction: str = "mean"
    discretized: bool = True
    time_sampler: str | TimeSampler | Callable = "uniform"
    time_sampler_options: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        choose(self.variance, VARIANCES, "variance")
        lookup(REDUCTIONS, self.reduction, "reduction")
        _ = self._time_sampler  # made here, so that mistakes show at once

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array | np.ndarray, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        state: Any = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), at levels and with noise drawn from `key`; `state` is the time sampler's memory.

        metrics hold t, the term without its T, and "loss", that of `at`; the loss returned is it times the time
        sampler's weight.
        """
        time_key, noise_key = jax.random.split(key)
        t, importance = self._time_sampler.sample(denoiser.perturbation, time_key, len(x0), state)
        loss, metrics = self.at(denoiser, x0, t, jax.random.normal(noise_key, x0.shape), label)
        return importance * loss, metrics | {"loss": loss}

    def at(self, denoiser, x0, t, noise, label=None):
        """(loss `[B]`, metrics) at given levels t `[B]` and noise."""
        check_variance(denoiser, self.variance, "objective variational")
        process = denoiser.perturbation
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        nats = bound_term(process, prediction, x0, t, self.variance, self.discretized)
        term = lookup(REDUCTIONS, self.reduction, "reduction")(nats, axis=tuple(range(1, nats.ndim)))
        return process.num_steps * term, {"t": t, "error": term}

    def weight(self, perturbation, t):
        """T times the weighting `vlb`; for a learned variance, which is no function of t, that of the large one."""
        variance = "large" if self.variance == "learned" else self.variance
        return perturbation.num_steps * weight("vlb", perturbation, t, variance=variance)

    def initial_state(self, perturbation):
        """What the time sampler remembers before training, or None."""
        return self._time_sampler.initial_state(perturbation)

    def update(self, state, metrics):
        """What it remembers after a batch of these metrics."""
        return self._time_sampler.update(state, metrics["t"], metrics["loss"])

    @functools.cached_property
    def _time_sampler(self):
        return time_sampler(self.time_sampler, **self.time_sampler_options)
