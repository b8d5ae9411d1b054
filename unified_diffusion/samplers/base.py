"""What all samplers share: the loop."""

import abc
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from unified_diffusion.denoiser import Denoiser


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """prior -> x_0: a schedule, and the step that is taken at each of its rows. Steps are the papers' algorithms."""

    @abc.abstractmethod
    def schedule(self, perturbation) -> tuple[np.ndarray, ...]:
        """What each step is given: arrays `[steps]`, unpacked into `step` a row at a time."""

    @abc.abstractmethod
    def step(self, denoiser, x_t, *row_and_key):
        """x after one step: (denoiser, x_t `[B, ...]`, one entry of each array of the schedule, keys `[B]`)."""

    @abc.abstractmethod
    def num_evaluations(self, perturbation) -> int:
        """Network evaluations per sample."""

    def __call__(
        self,
        denoiser: Denoiser,
        key: Key[Array, ""] | Key[Array, " b"],
        shape: tuple[int, ...],
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        progress=None,
    ) -> Float[Array, "..."]:
        """Samples at t = 0, in data units.

        Args:
            denoiser: the model, and the perturbation it is read under.
            key: one key, or one per sample `[B]`: each sample then depends on its own key alone, whatever the batch.
            shape: `(B, ...)`.
            label: class labels `[B]` for a conditional network.
            progress: a function of the number of steps done since its last call, called some 50 times.
        """
        keys = key if key.ndim else jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
        denoiser = denoiser if label is None else denoiser.given(jnp.asarray(label))
        rows = (*self.schedule(denoiser.perturbation),)
        numbers = np.arange(len(rows[0]), dtype=np.int32)
        x = _prior(denoiser.perturbation, keys, tuple(shape[1:]))
        for piece in np.split(numbers, _cuts(len(numbers)) if progress else []):
            x = _scan(self, denoiser, x, keys, tuple(row[piece] for row in rows), piece)
            if progress:
                jax.block_until_ready(x)
                progress(len(piece))
        return x


def noise_like(keys, x):
    """Standard normal noise shaped like `x` `[B, ...]`, each example from its own key `[B]`."""
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)


@functools.partial(jax.jit, static_argnames=("perturbation", "shape"))
def _prior(perturbation, keys, shape):
    return jax.vmap(lambda key: perturbation.sample_prior(jax.random.fold_in(key, 0), shape))(keys)


@functools.partial(jax.jit, static_argnames="sampler")
def _scan(sampler, denoiser, x, keys, rows, numbers):
    """The loop. Step n of a sample draws from fold_in(its key, n + 1), the prior from fold_in(its key, 0)."""

    def body(x, row):
        *row, number = row
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, number + 1))(keys)
        return sampler.step(denoiser, x, *row, step_keys), None

    return jax.lax.scan(body, x, (*rows, numbers))[0]


def _cuts(num_steps):
    """Where to cut a long loop so that its progress can be told: equal pieces where they exist, so one compilation."""
    pieces = next((n for n in range(50, 9, -1) if num_steps % n == 0), min(20, num_steps))
    length = -(-num_steps // pieces)
    return range(length, num_steps, length)
