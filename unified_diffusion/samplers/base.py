"""The base class of all samplers: its protocol, and the loop that takes the steps."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from unified_diffusion.conditions import Value
from unified_diffusion.errors import UserError


class Row(NamedTuple):
    """The row of a step that needs nothing but its times: the step goes from level t to the cleaner level s."""

    s: Any
    t: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """A sampler turns draws from the prior into samples at t = 0: (denoiser, key, shape) -> samples.

    A subclass is a frozen dataclass of settings and defines

    - `schedule(perturbation)`: a NamedTuple of arrays, one entry of each for every step;
    - `num_evaluations(perturbation)`: the cost of a sample;
    - one of `step`, the paper's algorithm from x_t to x_s, and `advance`, the same for a sampler that remembers earlier
      steps. Such a sampler also defines `memory` and sets `remembers`.

    Every other method has a default that suits most samplers. For example, DDIM without noise:

        class Plain(Sampler):
            num_steps: int = 50

            def schedule(self, perturbation):
                times = perturbation.timesteps(self.num_steps)
                return Row(s=times[1:], t=times[:-1])

            def step(self, denoiser, x_t, row, key):
                x0, eps, *_ = denoiser(x_t, row.t)
                return denoiser.perturbation.perturb(x0, row.s, eps)

            def num_evaluations(self, perturbation):
                return self.num_steps

    Attributes:
        continuous: the sampler asks for noise levels between those of a chain. A chain is then read as its continuous
            limit, `perturbation.continuous`.
        remembers: a step depends on earlier steps, through the memory.
        adaptive: each sample takes as many network evaluations as it needs. `num_evaluations` is then an upper bound,
            and `evaluations(memory)` returns the numbers that were taken.
        needs_data: the sampler cannot take a step before `prepare` has been given data.
    """

    continuous: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False

    @abc.abstractmethod
    def schedule(self, perturbation) -> tuple:
        """The rows of all steps: a NamedTuple of arrays `[steps, ...]`, or of further NamedTuples of such arrays.

        Its first two fields are s and t, the levels that each step goes to and comes from. Floats are float64. The
        perturbation is the one that `process` returns.
        """

    @abc.abstractmethod
    def num_evaluations(self, perturbation) -> int:
        """Network evaluations for one sample; for an adaptive sampler, the most that one sample may take."""

    def step(self, denoiser, x_t, row, key):
        """x_s `[B, ...]` after one step.

        Args:
            denoiser: the model, read under `process(perturbation)`.
            x_t: the samples at level row.t, `[B, ...]`.
            row: the schedule's NamedTuple with one entry in place of each array; integers and float32.
            key: one random key per sample, `[B]`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither step nor advance")

    def advance(self, denoiser, x_t, memory, row, key):
        """(x_s, memory) after one step; the arguments are those of `step`, with the memory before it."""
        return self.step(denoiser, x_t, row, key), memory

    def memory(self, x) -> Any:
        """The memory before the first step, given the prior's draws x `[B, ...]`: any pytree of arrays."""
        del x
        return ()

    def evaluations(self, memory) -> np.ndarray | None:
        """The network evaluations that each sample took, `[B]` on the host; None where all take `num_evaluations`.

        Raises:
            UserError: a sample that did not come to its end.
        """
        del memory
        return None

    def last_evaluations(self, perturbation) -> int:
        """Network evaluations of the last step. The default is right where all steps take the same number."""
        return self.num_evaluations(perturbation) // len(self.rows(perturbation)[0])

    def with_steps(self, num_steps: int) -> "Sampler":
        """A copy with another number of steps. A sampler without the field `num_steps` overrides this."""
        return dataclasses.replace(self, num_steps=num_steps)

    def prepare(self, denoiser, data, key, label=None, batch_size=250) -> "Sampler":
        """The sampler, ready to sample from this denoiser. Most samplers need no preparation and return themselves.

        Args:
            denoiser: the model that will be sampled from, without guidance.
            data: examples `[N, ...]` in data units; None where `needs_data` is false.
            key: a random key.
            label: the class labels `[N]` of the data, for a conditional network.
            batch_size: how many examples are evaluated at once.
        """
        del denoiser, data, key, label, batch_size
        return self

    def preparation_evaluations(self, perturbation) -> int:
        """Network evaluations that `prepare` takes for each example of the data."""
        del perturbation
        return 0

    def process(self, perturbation):
        """The perturbation that the steps are taken on: the given one, or its continuous limit."""
        return perturbation.continuous if self.continuous else perturbation

    def rows(self, perturbation) -> tuple:
        """The schedule on any perturbation, in the types that the steps are given: int32 and float32.

        Raises:
            UserError: a schedule that is not a NamedTuple starting with s and t.
        """
        rows = self.schedule(self.process(perturbation))
        if tuple(getattr(rows, "_fields", ()))[:2] != ("s", "t"):
            raise UserError(
                f"{type(self).__name__}.schedule must return a NamedTuple whose first fields are s and t, such as "
                "Row(s=times[1:], t=times[:-1])"
            )
        return jax.tree.map(_cast, rows)

    def __call__(
        self,
        denoiser: Callable,
        key: Key[Array, ""] | Key[Array, " b"],
        shape: tuple[int, ...],
        label: Value = None,
        progress=None,
    ) -> Float[Array, "..."]:
        """Samples at t = 0, in data units.

        Args:
            denoiser: the model together with its perturbation: a `Denoiser`, or a denoiser with guidance.
            key: one key, or one per sample `[B]`. A sample depends on its own key alone, whatever the batch.
            shape: `(B, ...)`.
            label: the condition of each example, such as class labels `[B]`, for a network that is told one.
            progress: a function of the number of steps done since its last call; it is called some 50 times.
        """
        return self.run(denoiser, key, shape, label, progress)[0]

    def run(self, denoiser, key, shape, label=None, progress=None):
        """(samples, the network evaluations that each sample took `[B]`); the arguments are those of `__call__`."""
        for state, _, steps in self._states(denoiser, key, shape, label, cut=_cuts if progress else _uncut):
            if progress and steps:
                jax.block_until_ready(state)
                progress(steps)
        x, memory = state
        evaluations = self.evaluations(memory)
        if evaluations is None:
            evaluations = np.full(len(x), self.num_evaluations(self.process(denoiser.perturbation)))
        return x, evaluations

    def trajectory(self, denoiser, key, shape, label=None, frames=10, progress=None):
        """(x, t) along the way: x `[frames + 1, B, ...]` from the prior to the sample, t `[frames + 1]` falling to 0.

        The frames are evenly spaced in steps; a sampler of fewer steps has a frame for each step. The other arguments
        are those of `__call__`, and the last x is what `__call__` returns, to the bit.
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
        """Iterates over (x, its t, the steps since the last item): the prior's draw, x at every cut, and the sample.

        `cut` is a function of the number of steps that returns the steps to stop after; None stops at the end only.
        """
        for (x, memory), t, steps in self._states(denoiser, key, shape, label, cut or _uncut):
            self.evaluations(memory)  # an adaptive sampler refuses samples that did not come to their end
            yield x, t, steps

    def _states(self, denoiser, key, shape, label, cut):
        """As `states`, with (x, memory) in place of x."""
        keys = key if key.ndim else jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
        denoiser = denoiser if label is None else denoiser.given(label)
        denoiser = denoiser.under(self.process(denoiser.perturbation))
        rows = self.rows(denoiser.perturbation)
        s, t = rows[:2]
        x = _prior(denoiser.perturbation, keys, tuple(shape[1:]))
        state = (x, self.memory(x))
        yield state, t[0], 0
        for piece in np.split(np.arange(len(s), dtype=np.int32), cut(len(s))):
            some = jax.tree.map(lambda column, piece=piece: column[piece], rows)
            state = _scan(self, denoiser, state, keys, some, piece)
            yield state, s[piece[-1]], len(piece)


def noise_like(keys, x):
    """Standard normal noise shaped like `x` `[B, ...]`; each example draws from its own key, `[B]`."""
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)


def _cast(column):
    column = np.asarray(column)
    return column.astype(np.float32 if np.issubdtype(column.dtype, np.floating) else np.int32)


@functools.partial(jax.jit, static_argnames=("perturbation", "shape"))
def _prior(perturbation, keys, shape):
    return jax.vmap(lambda key: perturbation.sample_prior(jax.random.fold_in(key, 0), shape))(keys)


@functools.partial(jax.jit, static_argnames="sampler")
def _scan(sampler, denoiser, state, keys, rows, numbers):
    """The loop. Step n of a sample draws from fold_in(its key, n + 1), and the prior from fold_in(its key, 0)."""

    def body(state, row_and_number):
        row, number = row_and_number
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, number + 1))(keys)
        return sampler.advance(denoiser, *state, row, step_keys), None

    return jax.lax.scan(body, state, (rows, numbers))[0]


def _uncut(num_steps):
    del num_steps
    return []


def _cuts(num_steps):
    """The steps to stop after so that a long loop can report: equal pieces where they exist, hence one compilation."""
    pieces = next((n for n in range(50, 9, -1) if num_steps % n == 0), min(20, num_steps))
    length = -(-num_steps // pieces)
    return range(length, num_steps, length)
