"""Predictor-corrector: a sampler's steps, with Langevin steps between them."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.registry import choose, lookup, suggest
from unified_diffusion.samplers.base import Row, Sampler, noise_like
from unified_diffusion.samplers.registry import BASIC

NORMS = ("example", "expected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictorCorrector(Sampler):
    """Predictor-corrector sampling takes Langevin steps at each level, and then the step of another sampler.

    A Langevin step is x += e score + sqrt(2 e) z, with e = 2 c (snr ‖z‖ / ‖score‖)² (Song et al. 2021, algorithms 1, 4
    and 5). As its authors ran it, the corrector comes first, at the prior's level too, and the predictor's last step,
    to s = 0, returns x0_hat. c is their alpha_i = 1 - beta_i, the squared scale of the forward step from s to t: 1 for
    NCSN and VE.

    The norms are each example's own, as the algorithms are written; the authors' code takes their means over the
    batch, so that a sample depends on those drawn with it. An example's own norm makes a step the longer the smaller
    the score is, so that the Langevin steps leave invariant not q(x_t) but q(x_t) ‖score‖². For a Gaussian in D
    dimensions the variance becomes 2 / D too large: negligible for images, but wrong for points in the plane. For
    points there are the norms that the noise has on average, ‖z‖² = D and ‖score‖² = D / sigma_t², so that e = 2 c (snr
    sigma_t)².

        PredictorCorrector(predictor=Ancestral(num_steps=100), corrector_steps=2)

    Args:
        predictor: any sampler without a memory, with its own settings. A config names it instead: by a name in
            `SAMPLERS`, by "module:Class", or by "none", which keeps x / alpha between levels and ends with the
            denoising step as other predictors do.
        predictor_options: further arguments of a predictor given by name.
        num_steps: the number of the predictor's steps; None leaves its own.
        spacing: how these steps are spread; None leaves the predictor's own.
        corrector_steps: the number of Langevin steps at each level; a step is one network evaluation.
        snr: the signal-to-noise ratio r of a Langevin step.
        norms: "example" for each example's own norms, or "expected" for those of the noise.

    Raises:
        UserError: an unknown predictor or option, a predictor with a memory, or a number out of range.
    """

    predictor: Sampler | str = "reverse_diffusion"
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
        if self._inner.remembers:
            raise UserError(
                f"predictor {self.predictor!r} remembers earlier steps, which the corrector would make untrue: "
                "take one without a memory, such as 'reverse_diffusion', 'ancestral' or 'euler_maruyama'"
            )

    def __hash__(self):
        return hash((self._inner, self.corrector_steps, self.snr, self.norms))

    @property
    def continuous(self):
        return self._inner.continuous

    @property
    def needs_data(self):
        return self._inner.needs_data

    def schedule(self, perturbation):
        """The predictor's rows."""
        return self._inner.schedule(perturbation)

    def step(self, denoiser, x_t, row, key):
        scale, _ = denoiser.perturbation.transition(row.s, row.t)

        def correct(number, x):
            return self._correct(denoiser, x, row.t, scale**2, _numbered(key, number + 1))

        x_t = jax.lax.fori_loop(0, self.corrector_steps, correct, x_t)
        return self._inner.step(denoiser, x_t, row, _numbered(key, 0))

    def _correct(self, denoiser, x, t, c, key):
        """One Langevin step at level t."""
        score, z = denoiser(x, t).score, noise_like(key, x)
        own = self.norms == "example"
        ratio = jnp.sqrt(_square(z) / _square(score)) if own else denoiser.perturbation.sigma(t)
        size = expand(2 * c * (self.snr * ratio) ** 2, x)
        return x + size * score + jnp.sqrt(2 * size) * z

    def num_evaluations(self, perturbation):
        steps = len(self.rows(perturbation)[0])
        return steps * self.corrector_steps + self._inner.num_evaluations(perturbation)

    def last_evaluations(self, perturbation):
        return self.corrector_steps + self._inner.last_evaluations(perturbation)

    def with_steps(self, num_steps):
        return self._with(self._inner.with_steps(num_steps))

    def prepare(self, denoiser, data, key, label=None, batch_size=250):
        """A copy whose predictor is prepared."""
        prepared = self._inner.prepare(denoiser, data, key, label, batch_size)
        return self if prepared is self._inner else self._with(prepared)

    def preparation_evaluations(self, perturbation):
        return self._inner.preparation_evaluations(perturbation)

    @functools.cached_property
    def _inner(self) -> Sampler:
        """The predictor as a sampler."""
        return resolved_predictor(self.predictor, self.predictor_options, self.num_steps, self.spacing)

    def _with(self, predictor):
        """A copy with another predictor, which has all its own settings."""
        return dataclasses.replace(self, predictor=predictor, predictor_options={}, num_steps=None, spacing=None)


def resolved_predictor(predictor, options, num_steps, spacing) -> Sampler:
    """The predictor as a sampler with its settings; a name is looked up among the samplers.

    Raises:
        UserError: an unknown name, an option that the predictor does not have, or options beside a sampler.
    """
    given = {"num_steps": num_steps, "spacing": spacing}
    settings = {**{option: value for option, value in given.items() if value is not None}, **options}
    if isinstance(predictor, Sampler):
        name, target = type(predictor).__name__, type(predictor)
        if options:
            raise UserError(f"predictor_options are for a predictor given by name: give {', '.join(options)} to {name}")
    else:
        names = {**BASIC, "none": Stay, "predictor_corrector": PredictorCorrector}
        name, target = predictor, lookup(names, predictor, "predictor")
    valid = list(inspect.signature(target).parameters)
    for option in settings:
        if option not in valid:
            raise UserError(f"predictor {name!r} has no option {option!r}; {suggest(option, valid)}")
    return dataclasses.replace(predictor, **settings) if isinstance(predictor, Sampler) else target(**settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stay(Sampler):
    """The predictor "none" keeps x / alpha between levels, and returns x0_hat at s = 0: for Langevin steps alone.

    Args:
        num_steps: the number of levels; None takes every level.
        spacing: how these levels are spread.
    """

    num_steps: int | None = None
    spacing: str = "uniform"

    def schedule(self, perturbation):
        steps = perturbation.num_steps if self.num_steps is None else self.num_steps
        times = perturbation.timesteps(steps, self.spacing)
        return Row(s=times[1:], t=times[:-1])

    def step(self, denoiser, x_t, row, key):
        del key
        rescale = denoiser.perturbation.alpha(row.s) / denoiser.perturbation.alpha(row.t)
        is_last = jnp.asarray(row.s) == 0
        return jax.lax.cond(is_last, lambda: denoiser(x_t, row.t).x0, lambda: expand(rescale, x_t) * x_t)

    def num_evaluations(self, perturbation):
        return 1

    def last_evaluations(self, perturbation):
        return 1


def _numbered(keys, number):
    """The keys `[B]` of one of the several draws in a step."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _square(x):
    """‖x‖² of each example, `[B]`."""
    return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))
