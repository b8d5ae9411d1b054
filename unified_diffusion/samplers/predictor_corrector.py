"""Predictor-corrector: a sampler's steps, with Langevin steps between them."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.registry import choose, lookup, suggest
from unified_diffusion.samplers.base import Sampler, noise_like

NORMS = ("example", "expected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictorCorrector(Sampler):
    """At each level Langevin steps x += e score + sqrt(2 e) z, with e = 2 c (snr ‖z‖ / ‖score‖)²; then the predictor's.

    Song et al. 2021, algorithms 1, 4 and 5; as its authors ran it, the corrector comes first, at the prior's level too,
    and the predictor's last step, to s = 0, gives x0_hat. c is their alpha_i = 1 - beta_i, the squared scale of the
    forward step from s to t: 1 for NCSN and VE.

    The norms are each example's own, as the algorithms are written; the authors' code takes their means over the
    batch, so that a sample depends on those drawn with it. With its own norm a step is the longer the smaller the
    score, and the Langevin steps leave invariant not q(x_t) but q(x_t) ‖score‖²: of a Gaussian in D dimensions the
    variance becomes 2 / D too large, nothing to images, but wrong for points in the plane. For these there are the
    norms that the noise has on average, ‖z‖² = D and ‖score‖² = D / sigma_t², so that e = 2 c (snr sigma_t)².

    Args:
        predictor: "none", or any sampler without a memory: a name in `SAMPLERS` or "module:Class". "none" leaves
            x / alpha as it is between levels, and ends with the denoising step as the others do.
        predictor_options: further arguments of the predictor.
        num_steps: steps of the predictor; None leaves its own default.
        spacing: how they are spread; None leaves its own default.
        corrector_steps: Langevin steps at each level, one network evaluation each.
        snr: the signal-to-noise ratio r of a Langevin step.
        norms: "example" for each example's own, or "expected" for those of the noise.

    Raises:
        UserError: an unknown predictor or option, a predictor with a memory, or a number out of range.
    """

    predictor: str = "reverse_diffusion"
    predictor_options: Mapping = dataclasses.field(default_factory=dict)
    num_steps: int | None = None
    spacing: str | None = None
    corrector_steps: int = 1
    snr: float = 0.16
    norms: str = "example"

    def __post_init__(self):
        if self.corrector_steps < 0:
            raise UserError(f"corrector_steps = {self.corrector_steps}: it must not be negative")
        if not 0 < self.snr < 1:
            raise UserError(f"snr = {self.snr}: the corrector is stable between 0 and 1, both excluded")
        choose(self.norms, NORMS, "norms")
        if hasattr(self._predictor, "history"):
            raise UserError(
                f"predictor {self.predictor!r} remembers earlier steps, which the corrector would make untrue: "
                "take one without a memory, such as 'reverse_diffusion', 'ancestral' or 'euler_maruyama'"
            )

    def __hash__(self):
        return hash((self._predictor, self.corrector_steps, self.snr, self.norms))

    @functools.cached_property
    def _predictor(self):
        from unified_diffusion.samplers import SAMPLERS  # which lists this class, too

        target = lookup({**SAMPLERS, "none": Stay}, self.predictor, "predictor")
        valid = list(inspect.signature(target).parameters)
        given = {name: getattr(self, name) for name in ("num_steps", "spacing") if getattr(self, name) is not None}
        for option in {**given, **self.predictor_options}:
            if option not in valid:
                raise UserError(f"predictor {self.predictor!r} has no option {option!r}; {suggest(option, valid)}")
        return target(**{**given, **self.predictor_options})

    @property
    def continuous(self):
        return self._predictor.continuous

    def schedule(self, perturbation):
        return self._predictor.schedule(perturbation)

    def step(self, denoiser, x, s, t, *row_and_keys):
        *row, keys = row_and_keys
        scale, _ = denoiser.perturbation.transition(s, t)

        def correct(number, x):
            return self._correct(denoiser, x, t, scale**2, _numbered(keys, number + 1))

        x = jax.lax.fori_loop(0, self.corrector_steps, correct, x)
        return self._predictor.step(denoiser, x, s, t, *row, _numbered(keys, 0))

    def _correct(self, denoiser, x, t, c, keys):
        """One Langevin step at level t."""
        score, z = denoiser(x, t).score, noise_like(keys, x)
        own = self.norms == "example"
        ratio = jnp.sqrt(_square(z) / _square(score)) if own else denoiser.perturbation.sigma(t)
        size = expand(2 * c * (self.snr * ratio) ** 2, x)
        return x + size * score + jnp.sqrt(2 * size) * z

    def num_evaluations(self, perturbation):
        steps = len(self.rows(perturbation)[0])
        return steps * self.corrector_steps + self._predictor.num_evaluations(perturbation)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stay(Sampler):
    """x_s / alpha_s = x_t / alpha_t, and x0_hat at s = 0: no predictor at all, for Langevin steps alone.

    Args:
        num_steps: levels to stay at; None takes every one.
        spacing: how they are spread.
    """

    continuous: ClassVar[bool] = False

    num_steps: int | None = None
    spacing: str = "uniform"

    def schedule(self, perturbation):
        steps = perturbation.num_steps if self.num_steps is None else self.num_steps
        times = perturbation.timesteps(steps, self.spacing)
        return times[1:], times[:-1]

    def step(self, denoiser, x_t, s, t, key):
        del key
        rescale = denoiser.perturbation.alpha(s) / denoiser.perturbation.alpha(t)
        return jax.lax.cond(jnp.asarray(s) == 0, lambda: denoiser(x_t, t).x0, lambda: expand(rescale, x_t) * x_t)

    def num_evaluations(self, perturbation):
        return 1


def _numbered(keys, number):
    """The keys `[B]` of one of several draws in a step."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _square(x):
    """‖x‖² of each example, `[B]`."""
    return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))
