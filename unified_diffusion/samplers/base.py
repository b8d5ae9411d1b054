"""What all samplers share: the loop."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """prior -> x_0: a schedule, and the step that is taken at each of its rows. Steps are the papers' algorithms.

    A sampler that remembers earlier steps has a method `history(x)`, what it remembers before the first one: any pytree
    of arrays. Its step then takes `(x, history)` in place of x, and returns both.

    Attributes:
        continuous: whether it asks for noise levels between those of a chain: a chain is then read as its continuous
            limit, `perturbation.continuous`.
        adaptive: whether `num_evaluations` is only the most that a sample may take. It then remembers what each has
            taken, and has a method `evaluations(history)` that says it, `[B]`, on the host.
    """

    continuous: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False

    @abc.abstractmethod
    def schedule(self, perturbation) -> tuple[np.ndarray, ...]:
        """What each step is given: arrays `[steps]`, of which the first two are s and t, the times it goes to and from.

        The perturbation is the one that `process` gives. Floats are in float64 here and in float32 in the step.
        """

    @abc.abstractmethod
    def step(self, denoiser, x_t, *row_and_keys):
        """x_s: (denoiser, x_t `[B, ...]`, one entry of each array of the schedule, keys `[B]`)."""

    @abc.abstractmethod
    def num_evaluations(self, perturbation) -> int:
        """Network evaluations per sample; of an adaptive sampler, the most it may take."""

    def process(self, perturbation):
        """The perturbation that the steps are taken on."""
        return perturbation.continuous if self.continuous else perturbation

    def rows(self, perturbation):
        """The schedule on any perturbation, in the types that the steps are given: integers and float32."""
        columns = (np.asarray(column) for column in self.schedule(self.process(perturbation)))
        return tuple(c.astype(np.float32 if np.issubdtype(c.dtype, np.floating) else np.int32) for c in columns)

    def __call__(
        self,
        denoiser: Callable,
        key: Key[Array, ""] | Key[Array, " b"],
        shape: tuple[int, ...],
        label: Int[Array, " b"] | Int[np.ndarray, " b"] | None = None,
        progress=None,
    ) -> Float[Array, "..."]:
        """Samples at t = 0, in data units.

        Args:
            denoiser: the model, and the perturbation it is read under: a `Denoiser`, or one with guidance.
            key: one key, or one per sample `[B]`: each sample then depends on its own key alone, whatever the batch.
            shape: `(B, ...)`.
            label: class labels `[B]` for a conditional network.
            progress: a function of the number of steps done since its last call, called some 50 times.
        """
        return self.run(denoiser, key, shape, label, progress)[0]

    def run(self, denoiser, key, shape, label=None, progress=None):
        """(samples, network evaluations that each took `[B]`); the arguments are those of `__call__`."""
        for state, _, steps in self._states(denoiser, key, shape, label, cut=_cuts if progress else _uncut):
            if progress and steps:
                jax.block_until_ready(state)
                progress(steps)
        x, evaluations = self._split(state)
        if evaluations is None:
            evaluations = np.full(len(x), self.num_evaluations(self.process(denoiser.perturbation)))
        return x, evaluations

    def trajectory(self, denoiser, key, shape, label=None, frames=10, progress=None):
        """(x, t) on the way: x `[frames + 1, B, ...]` from the prior to the sample, t `[frames + 1]` falling to 0.

        Frames are as many steps apart as can be; a sampler of fewer steps has a frame for each. For the other arguments
        see `__call__`: the last x are its very bits.
        """
        found = []

        def cut(num_steps):
            return np.unique(np.rint(np.linspace(0, num_steps, min(frames, num_steps) + 1)).astype(int))[1:-1]

        for x, t, steps in self.states(denoiser, key, shape, label, cut=cut):
            found.append((np.asarray(x), t))
            if progress and steps:
                progress(steps)
        return tuple(np.array(column) for column in zip(*found, strict=True))

    def states(self, denoiser, key, shape, label=None, cut=None):
        """Iterates over (x, its t, steps since the last one): the prior, x wherever the loop is cut, and the sample.

        `cut` says after which steps, as a function of their number; without it there is one piece.
        """
        for state, t, steps in self._states(denoiser, key, shape, label, cut):
            yield self._split(state)[0], t, steps

    def _split(self, state):
        """(x, the evaluations that it took, or None where all samples take the same)."""
        if not hasattr(self, "history"):
            return state, None
        x, history = state
        return x, self.evaluations(history) if self.adaptive else None

    def _states(self, denoiser, key, shape, label, cut):
        """As `states`, of x with what the sampler remembers."""
        keys = key if key.ndim else jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
        denoiser = denoiser if label is None else denoiser.given(jnp.asarray(label))
        denoiser = denoiser.under(self.process(denoiser.perturbation))
        rows = self.rows(denoiser.perturbation)
        numbers = np.arange(len(rows[0]), dtype=np.int32)
        x = _prior(denoiser.perturbation, keys, tuple(shape[1:]))
        state = (x, self.history(x)) if hasattr(self, "history") else x
        yield state, rows[1][0], 0
        for piece in np.split(numbers, (cut or _uncut)(len(numbers))):
            state = _scan(self, denoiser, state, keys, tuple(row[piece] for row in rows), piece)
            yield state, rows[0][piece[-1]], len(piece)


def noise_like(keys, x):
    """Standard normal noise shaped like `x` `[B, ...]`, each example from its own key `[B]`."""
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)


@functools.partial(jax.jit, static_argnames=("perturbation", "shape"))
def _prior(perturbation, keys, shape):
    return jax.vmap(lambda key: perturbation.sample_prior(jax.random.fold_in(key, 0), shape))(keys)


@functools.partial(jax.jit, static_argnames="sampler")
def _scan(sampler, denoiser, state, keys, rows, numbers):
    """The loop. Step n of a sample draws from fold_in(its key, n + 1), the prior from fold_in(its key, 0)."""

    def body(state, row):
        *row, number = row
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, number + 1))(keys)
        return sampler.step(denoiser, state, *row, step_keys), None

    return jax.lax.scan(body, state, (*rows, numbers))[0]


def _uncut(num_steps):
    del num_steps
    return []


def _cuts(num_steps):
    """Where to cut a long loop so that its progress can be told: equal pieces where they exist, so one compilation."""
    pieces = next((n for n in range(50, 9, -1) if num_steps % n == 0), min(20, num_steps))
    length = -(-num_steps // pieces)
    return range(length, num_steps, length)
