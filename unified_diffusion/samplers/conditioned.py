"""Sampling given a part of the data: inpainting, colourisation, and any other mask in an orthonormal basis."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose
from unified_diffusion.samplers.base import Sampler, noise_like

# An orthonormal basis of the three colours, one axis a row; the first axis is grey.
GREY = tuple(
    tuple(float(entry) for entry in np.asarray(axis) / np.linalg.norm(axis))
    for axis in ((1, 1, 1), (1, -1, 0), (1, 1, -2))
)


class ConditionedRow(NamedTuple):
    """A step from t to s with the sampler's own row `inner`; `again` if x is first noised from s back to t."""

    s: Any
    t: Any
    again: Any
    inner: Any


@dataclasses.dataclass(frozen=True)
class Conditioned(Sampler):
    """A stochastic sampler that is given a part of x_0: after each step, to s, that part is set to what is known.

    The part of x_s becomes alpha_s y + sigma_s z (Song et al. 2021, appendix I.2); at s = 0 it is y itself. With
    `resamplings` x_s is noised back to x_t, and the step is taken again (Lugmayr et al. 2022, algorithm 1), which makes
    the rest fit what is known. Both are approximations: x_t is never drawn from the exact q(x_t | y), and the error is
    larger with fewer steps and fewer resamplings. A sampler without noise has the largest error, since it keeps what
    its earlier steps made of the unknown part. A sampler that remembers earlier steps cannot take them again: it would
    extrapolate from steps that are no longer on its way, and the variance explodes.

        Conditioned(Ancestral(num_steps=100), image, mask, resamplings=5)(denoiser, key, (4, *image.shape))

    Args:
        sampler: the sampler that is run, with all its own settings. An adaptive sampler is refused, since its few long
            steps would hide what is known.
        observation: y, shaped like the data or broadcast to them, `[B, ...]` for one per sample; only its known part is
            read.
        mask: true where the observation is known, shaped in the same way.
        basis: the basis of the mask. None is the data's own (inpainting). An orthogonal matrix `[C, C]` of the channels
            has the axes as its rows; "grey" is such a basis of the three colours, whose first axis is grey
            (colourisation, with the mask (True, False, False)). A pair of functions (to_basis, from_basis) of
            `[B, ...]`, inverse to each other, is any other orthonormal basis.
        resamplings: how often each step is taken, except the last step, to clean data, which is taken once.

    Raises:
        UserError: an adaptive sampler, resamplings of a sampler with a memory, resamplings below 1, a mask of values
            other than true and false, or a matrix that is not orthogonal; when called, an observation, mask or basis
            that does not fit the data.
    """

    remembers: ClassVar[bool] = True

    sampler: Sampler
    # These two are not compared: the loop is compiled once for equal samplers, and gets them as data, in its memory.
    observation: Any = dataclasses.field(compare=False)
    mask: Any = dataclasses.field(compare=False)
    _: dataclasses.KW_ONLY
    basis: Any = None
    resamplings: int = 1

    def __post_init__(self):
        if self.sampler.adaptive:
            raise UserError(
                f"{type(self.sampler).__name__} chooses its own steps, and what is known enters between steps: "
                "take a sampler of a fixed number of them, such as Ancestral"
            )
        if not np.isin(np.asarray(self.mask), (0, 1)).all():
            raise UserError("a mask is true where the data are known and false elsewhere: give it booleans, or 0 and 1")
        if self.resamplings < 1:
            raise UserError(f"resamplings = {self.resamplings}: each step is taken at least once")
        if self.resamplings > 1 and self.sampler.remembers:
            raise UserError(
                f"resamplings = {self.resamplings}: {type(self.sampler).__name__} remembers earlier steps, and a step "
                "taken again would make that untrue: take 1, or a sampler without a memory, such as Ancestral or DDIM"
            )
        if isinstance(self.basis, str):
            object.__setattr__(self, "basis", {"grey": GREY}[choose(self.basis, ("grey",), "basis")])
        elif self.basis is not None and not callable(self.basis[0]):
            matrix = np.asarray(self.basis, np.float64)
            square = matrix.ndim == 2 and len(matrix) == matrix.shape[1]
            if not square or not np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5):
                raise UserError("a basis is an orthogonal matrix of the channels: the product with its transpose is 1")
            object.__setattr__(self, "basis", tuple(map(tuple, matrix.tolist())))
        elif self.basis is not None:
            object.__setattr__(self, "basis", tuple(self.basis))

    @property
    def continuous(self):
        return self.sampler.continuous

    @property
    def needs_data(self):
        return self.sampler.needs_data

    def memory(self, x):
        """(the observation, the mask, the sampler's own memory)."""
        if self._matrix is not None and len(self._matrix) != x.shape[-1]:
            raise UserError(f"a basis of {len(self._matrix)} channels, for data of {x.shape[-1]}")
        try:
            observation = jnp.broadcast_to(jnp.asarray(self.observation, x.dtype), x.shape)
            mask = jnp.broadcast_to(jnp.asarray(self.mask, bool), x.shape)
        except ValueError:
            shapes = f"{np.shape(self.observation)} and {np.shape(self.mask)}"
            raise UserError(f"observation and mask of shapes {shapes} do not fit samples {x.shape}") from None
        return observation, mask, self.sampler.memory(x)

    def schedule(self, perturbation):
        """The rows of the sampler, each repeated as often as its step is taken."""
        inner = self.sampler.schedule(perturbation)
        taken = np.append(np.full(len(inner[0]) - 1, self.resamplings), 1)
        again = np.concatenate([np.arange(number) > 0 for number in taken])
        inner = jax.tree.map(lambda column: np.repeat(column, taken, axis=0), inner)
        return ConditionedRow(s=inner.s, t=inner.t, again=again, inner=inner)

    def advance(self, denoiser, x_t, memory, row, key):
        process, (observation, mask, inner) = denoiser.perturbation, memory
        back_key, step_key, known_key = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(key)
        if self.resamplings > 1:
            scale, variance = process.transition(row.s, row.t)
            x_t = jnp.where(row.again > 0, scale * x_t + jnp.sqrt(variance) * noise_like(back_key, x_t), x_t)
        x_s, inner = self.sampler.advance(denoiser, x_t, inner, row.inner, step_key)
        known = process.perturb(observation, row.s, noise_like(known_key, x_t))
        x_s = self.from_basis(jnp.where(mask, self.to_basis(known), self.to_basis(x_s)))
        return x_s, (observation, mask, inner)

    def num_evaluations(self, perturbation):
        every, last = self.sampler.num_evaluations(perturbation), self.sampler.last_evaluations(perturbation)
        return self.resamplings * (every - last) + last

    def last_evaluations(self, perturbation):
        return self.sampler.last_evaluations(perturbation)

    def with_steps(self, num_steps):
        return dataclasses.replace(self, sampler=self.sampler.with_steps(num_steps))

    def prepare(self, denoiser, data, key, label=None, batch_size=250):
        """A copy whose sampler is prepared."""
        prepared = self.sampler.prepare(denoiser, data, key, label, batch_size)
        return self if prepared is self.sampler else dataclasses.replace(self, sampler=prepared)

    def preparation_evaluations(self, perturbation):
        return self.sampler.preparation_evaluations(perturbation)

    def to_basis(self, x):
        """x in the basis of the mask."""
        if self._matrix is not None:
            return jnp.einsum("...c,kc->...k", x, jnp.asarray(self._matrix, x.dtype), precision="highest")
        return x if self.basis is None else self.basis[0](x)

    def from_basis(self, x):
        """The inverse of `to_basis`."""
        if self._matrix is not None:
            return jnp.einsum("...k,kc->...c", x, jnp.asarray(self._matrix, x.dtype), precision="highest")
        return x if self.basis is None else self.basis[1](x)

    @property
    def _matrix(self):
        return None if self.basis is None or callable(self.basis[0]) else self.basis
