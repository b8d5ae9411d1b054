"""Denoising, the one loss of DDPM and NCSN."""

import dataclasses

import jax.numpy as jnp
import optax

from unified_diffusion.objectives.base import WeightedLevels
from unified_diffusion.registry import lookup

NORMS = {"l2": jnp.square, "l1": jnp.abs, "huber": optax.losses.huber_loss}
REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(WeightedLevels):
    """The loss w(t) ‖eps_hat(x_t, t) - eps‖² at a random level t of each example.

    With the weighting `simple` this is DDPM's L_simple (Ho et al. 2020, eq. 14). Since score = -eps / sigma, it is also
    NCSN's denoising score matching with the weight sigma² (Song & Ermon 2019, eq. 5 and 6, times 2). With `vlb` and
    reduction "sum" it is a term of the variational bound, in nats.

    Args:
        weighting, weighting_options, normalize, time_sampler, time_sampler_options: as in `WeightedLevels`.
        norm: "l2" (squares), "l1" or "huber" (delta = 1), applied to the error in eps.
        reduction: "mean" over the dimensions of an example, as in DDPM's code, or "sum", the papers' ‖·‖².

    Raises:
        UserError: an unknown name or option, or an option's value out of range.

    Example:
        objective = Denoising(weighting="min_snr", weighting_options={"gamma": 5.0})
        loss, metrics = objective(denoiser, x0, jax.random.key(0))
    """

    norm: str = "l2"
    reduction: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        lookup(NORMS, self.norm, "norm")
        lookup(REDUCTIONS, self.reduction, "reduction")

    def at(self, denoiser, x0, t, noise, label=None, key=None, reference=None):
        """Returns (loss `[B]`, metrics) at given levels and noise; the metric "error" is the loss without w(t)."""
        process = denoiser.perturbation
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        errors = lookup(NORMS, self.norm, "norm")(prediction.eps - noise)
        error = lookup(REDUCTIONS, self.reduction, "reduction")(errors, axis=tuple(range(1, errors.ndim)))
        return self.weight(process, t) * error, {"t": t, "error": error}
