"""Sampling given a part of the data: inpainting, colourisation, and any other mask in an orthonormal basis."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose
from unified_diffusion.samplers.base import Sampler, noise_like

# An orthonormal basis of the three colours, its axes in rows, whose first one is grey.
GREY = tuple(
    tuple(float(entry) for entry in np.asarray(axis) / np.linalg.norm(axis))
    for axis in ((1, 1, 1), (1, -1, 0), (1, 1, -2))
)


@dataclasses.dataclass(frozen=True)
class Conditioned(Sampler):
    """Any stochastic sampler, given a part of x_0: after each step to s that part of x_s becomes alpha_s y + sigma_s z.

    Song et al. 2021, appendix I.2. At s = 0 the part is y itself. With `resamplings` x_s is noised back to x_t, and the
    step is taken again: Lugmayr et al. 2022, algorithm 1, which makes the rest go with what is known. Both are
    approximations: x_t is never drawn from the exact q(x_t | y), and fewer steps and fewer resamplings are further from
    it. A sampler without noise keeps what it did before it knew, and is further still. One that remembers earlier steps
    cannot take them again: what it extrapolates from would no longer be on its way, and the variance explodes.

    Args:
        sampler: what is run, with all its own settings. It cannot be an adaptive one, whose few long steps would hide
            what is known.
        observation: y, shaped like the data or broadcast to them, `[B, ...]` for one per sample; only its known part is
            read.
        mask: true where it is known, shaped in the same way.
        basis: of the mask: None for the data's own (inpainting); an orthogonal matrix `[C, C]` of the channels, whose
            rows are the axes, or "grey", one of the three colours whose first axis is grey (colourisation, with the
            mask (True, False, False)); or a pair of functions (to_basis, from_basis) of `[B, ...]`, inverse to each
            other, of an orthonormal basis.
        resamplings: how often each step is taken, but for the last one, to clean data, which is taken once.

    Raises:
        UserError: an adaptive sampler, resamplings of one with a memory, none at all, a mask of other values than true
            and false, a matrix that is not orthogonal; when called, an observation, mask or basis that does not fit the
            data.
    """

    sampler: Sampler
    # Not compared: the loop is compiled for equal samplers once, and gets these as data, in its `history`.
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
        if self.resamplings > 1 and self._remembers:
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

    def history(self, x):
        """What is known, where, and what the sampler remembers."""
        if self._matrix is not None and len(self._matrix) != x.shape[-1]:
            raise UserError(f"a basis of {len(self._matrix)} channels, for data of {x.shape[-1]}")
        try:
            observation = jnp.broadcast_to(jnp.asarray(self.observation, x.dtype), x.shape)
            mask = jnp.broadcast_to(jnp.asarray(self.mask, bool), x.shape)
        except ValueError:
            shapes = f"{np.shape(self.observation)} and {np.shape(self.mask)}"
            raise UserError(f"observation and mask of shapes {shapes} do not fit samples {x.shape}") from None
        return observation, mask, self.sampler.history(x) if self._remembers else ()

    def schedule(self, perturbation):
        """Each row of the sampler's as often as it is taken, and whether x is noised back to t first."""
        rows = self.sampler.schedule(perturbation)
        taken = np.append(np.full(len(rows[0]) - 1, self.resamplings), 1)
        again = np.concatenate([np.arange(number) > 0 for number in taken])
        return *(np.repeat(column, taken, axis=0) for column in rows), again

    def step(self, denoiser, state, s, t, *row_and_keys):
        *row, again, keys = row_and_keys
        x, (observation, mask, memory) = state
        process = denoiser.perturbation
        back_keys, step_keys, known_keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        if self.resamplings > 1:
            scale, variance = process.transition(s, t)
            x = jnp.where(again > 0, scale * x + jnp.sqrt(variance) * noise_like(back_keys, x), x)
        if self._remembers:
            x_s, memory = self.sampler.step(denoiser, (x, memory), s, t, *row, step_keys)
        else:
            x_s = self.sampler.step(denoiser, x, s, t, *row, step_keys)
        known = process.perturb(observation, s, noise_like(known_keys, x))
        x_s = self.from_basis(jnp.where(mask, self.to_basis(known), self.to_basis(x_s)))
        return x_s, (observation, mask, memory)

    def num_evaluations(self, perturbation):
        every = self.sampler.num_evaluations(perturbation)
        if self.resamplings == 1:
            return every
        last = self._last_evaluations(perturbation)
        return self.resamplings * (every - last) + last

    def _last_evaluations(self, perturbation):
        """Those of the last step: of a run of one step, or, of Langevin steps, as many as of any other."""
        if hasattr(self.sampler, "num_steps"):
            return dataclasses.replace(self.sampler, num_steps=1).num_evaluations(perturbation)
        return self.sampler.num_evaluations(perturbation) // len(self.sampler.rows(perturbation)[0])

    def to_basis(self, x):
        """x in the mask's basis."""
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

    @property
    def _remembers(self):
        return hasattr(self.sampler, "history")
