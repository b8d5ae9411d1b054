"""Denoising: the one loss of DDPM and NCSN."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.objectives.time_samplers import TIME_SAMPLERS
from unified_diffusion.objectives.weightings import weighting
from unified_diffusion.registry import lookup

NORMS = {"l2": jnp.square, "l1": jnp.abs, "huber": optax.losses.huber_loss}
REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising:
    """w(t) ‖eps_hat(x_t, t) - eps‖² at a random level t of each example.

    With `simple` it is DDPM's L_simple (Ho et al. 2020, eq. 14) and, since score = -eps / sigma, NCSN's sigma²-weighted
    denoising score matching (Song & Ermon 2019, eq. 5); with `vlb` and reduction "sum", a term of the bound in nats.

    Args:
        weighting: a name in `WEIGHTINGS`, "module:function", or a function of (perturbation, t).
        weighting_options: options of that weighting, such as {"variance": "small"}.
        time_sampler: a name in `TIME_SAMPLERS`, "module:function", or a function of (perturbation, key, batch_size).
        norm: "l2" (squares), "l1" or "huber" (delta = 1), of the error in eps.
        reduction: "mean" over an example's dimensions, DDPM's choice, or "sum", the papers' ‖·‖².

    Raises:
        UserError: an unknown name.
    """

    weighting: str | Callable = "simple"
    weighting_options: Mapping = dataclasses.field(default_factory=dict)
    time_sampler: str | Callable = "uniform"
    norm: str = "l2"
    reduction: str = "mean"

    def __post_init__(self):
        weighting(self.weighting, **self.weighting_options)
        lookup(NORMS, self.norm, "norm")
        lookup(REDUCTIONS, self.reduction, "reduction")
        self._time_sampler()

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Float[Array, " b *d"],
        key: PRNGKeyArray,
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """(loss `[B]`, metrics), at levels and with noise drawn from `key`."""
        time_key, noise_key = jax.random.split(key)
        t = self._time_sampler()(denoiser.perturbation, time_key, len(x0))
        noise = jax.random.normal(noise_key, x0.shape)
        return self.at(denoiser, x0, t, noise, label)

    def at(self, denoiser, x0, t, noise, label=None):
        """(loss `[B]`, metrics) at given levels t `[B]` and noise; metrics hold t and the error before its weight."""
        process = denoiser.perturbation
        prediction = denoiser(process.perturb(x0, t, noise), t, label)
        errors = lookup(NORMS, self.norm, "norm")(prediction.eps - noise)
        error = lookup(REDUCTIONS, self.reduction, "reduction")(errors, axis=tuple(range(1, errors.ndim)))
        return self.weight(process, t) * error, {"t": t, "error": error}

    def weight(self, perturbation, t):
        """w(t), shaped like t."""
        return weighting(self.weighting, **self.weighting_options)(perturbation, t)

    def _time_sampler(self):
        return (
            self.time_sampler
            if callable(self.time_sampler)
            else lookup(TIME_SAMPLERS, self.time_sampler, "time sampler")
        )
