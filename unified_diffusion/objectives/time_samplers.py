"""Time samplers draw the noise levels of a batch. A new one is a class and a line in `TIME_SAMPLERS`."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from unified_diffusion.errors import UserError
from unified_diffusion.objectives.options import check_number, check_options
from unified_diffusion.registry import lookup


class TimeSampler(abc.ABC):
    """A time sampler draws a level t for each example, from the perturbation's `times` or, if continuous, between.

    Attributes:
        reweights: whether the weights of `sample` make up for the levels' unequal probabilities, so that the expected
            loss is that of `uniform`. If not, the probabilities are part of the objective, as a weighting is.
    """

    reweights: ClassVar[bool] = False

    @abc.abstractmethod
    def sample(self, perturbation, key, batch_size, state=None) -> tuple[Array, Array]:
        """Returns (t, weight), each `[batch_size]`: the levels, and the factor of each example's loss.

        `state` is the memory; without it, levels are drawn as before the first batch.
        """

    @abc.abstractmethod
    def probabilities(self, perturbation, state=None) -> Array | np.ndarray:
        """Returns p(t) of the levels `times`: `[num_steps]`, with sum 1.

        Raises:
            UserError: the sampler is not for this many levels.
        """

    @abc.abstractmethod
    def initial_state(self, perturbation) -> Any:
        """Returns the memory before training, a pytree of arrays, or None for a sampler that remembers nothing."""

    @abc.abstractmethod
    def update(self, state, t, loss) -> Any:
        """Returns the memory after a batch at levels t `[B]` with losses `[B]`, before the weight of `sample`."""


class Stateless(TimeSampler):
    """A time sampler that remembers nothing."""

    def initial_state(self, perturbation):
        """Returns None, or raises UserError for a perturbation that the sampler does not take."""
        self.probabilities(perturbation)

    def update(self, state, t, loss):
        del t, loss
        return state


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform(Stateless):
    """Draws t uniformly from all levels, independently for each example.

    Ho et al. 2020, algorithm 1; Song et al. 2021, eq. 7.
    """

    def sample(self, perturbation, key, batch_size, state=None):
        return perturbation.draw_times(key, batch_size), jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        return _uniform(perturbation)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowDiscrepancy(Stateless):
    """Draws t at the quantiles u + i / B modulo 1, for one uniform u and the examples i = 0 … B - 1.

    The t of each example is uniform, and any range of levels gets its share of the batch, rounded up or down. The
    levels are not shuffled, since the examples of a batch come in random order. Kingma et al. 2021 (VDM), appendix I.1.
    """

    def sample(self, perturbation, key, batch_size, state=None):
        quantile = (jax.random.uniform(key) + jnp.arange(batch_size) / batch_size) % 1
        return perturbation.time_at(quantile), jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        return _uniform(perturbation)


class LossHistory(NamedTuple):
    """The memory of `Importance`: the last losses of each level.

    Attributes:
        losses: `[num_steps, history]` float32, a ring buffer for each level.
        count: `[num_steps]` int32, the number of losses ever written for each level.
        times: `[num_steps]`, the t of each level, rising.
    """

    losses: jax.Array
    count: jax.Array
    times: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance(TimeSampler):
    """Draws t in proportion to sqrt(E[L_t²]), with the weight 1 / (num_steps p(t)): less variance, the same mean.

    The second moment is that of the last `history` losses of a level. Until every level has that many, t is uniform;
    after that, a share `uniform` of the draws still is. Nichol & Dhariwal 2021, eq. 18 and section 3.3.

    Args:
        history: the number of losses remembered for each level.
        uniform: the share of uniform draws, in (0, 1].

    Raises:
        UserError: either out of range.
    """

    history: int = 10
    uniform: float = 0.001

    reweights: ClassVar[bool] = True

    def __post_init__(self):
        check_number("time sampler 'importance'", "history", self.history, above=0)
        check_number("time sampler 'importance'", "uniform", self.uniform, above=0)
        if self.uniform > 1 or self.history != int(self.history):
            raise UserError("time sampler 'importance': history is a whole number, and uniform at most 1")

    def sample(self, perturbation, key, batch_size, state=None):
        p = self.probabilities(perturbation, state)
        number = _draw(key, p, batch_size)
        return _times(perturbation)[number], 1 / (perturbation.num_steps * p[number])

    def probabilities(self, perturbation, state=None):
        state = self.initial_state(perturbation) if state is None else state
        moment = jnp.sqrt(jnp.mean(state.losses**2, axis=1))
        total = jnp.sum(moment)
        even = 1 / perturbation.num_steps
        mixed = (1 - self.uniform) * moment / jnp.where(total > 0, total, 1) + self.uniform * even
        return jnp.where(jnp.all(state.count >= self.history) & (total > 0), mixed, even)

    def initial_state(self, perturbation):
        levels = perturbation.num_steps
        rings = jnp.zeros((levels, int(self.history)))
        return LossHistory(rings, jnp.zeros(levels, jnp.int32), _times(perturbation))

    def update(self, state, t, loss):
        levels, size = state.losses.shape
        same = t[:, None] == t[None, :]
        earlier, later = jnp.sum(jnp.tril(same, -1), axis=1), jnp.sum(jnp.triu(same, 1), axis=1)
        number = jnp.searchsorted(state.times, t)
        slot = (state.count[number] + earlier) % size
        # A batch may hold more examples of a level than there are slots; then the last ones stay. The others are sent
        # out of bounds, since JAX does not define which of two writes to a slot wins.
        row = jnp.where(later < size, number, levels)
        losses = state.losses.at[row, slot].set(loss.astype(state.losses.dtype), mode="drop")
        return LossHistory(losses, state.count.at[number].add(1), state.times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogNormal(Stateless):
    """Draws ln(sigma / alpha) from a normal distribution and takes the nearest level. Karras et al. 2022, table 1.

    The distribution is part of the objective. The distance of levels is measured in ln(sigma / alpha), minus half the
    log-SNR. Levels that lie close together therefore share the probability that a coarser chain gives to one level, and
    the first and last level get all draws beyond them.

    Args:
        p_mean: mean of ln(sigma / alpha), for data in [-1, 1].
        p_std: its standard deviation.

    Raises:
        UserError: a mean that is no number, or a standard deviation that is not above 0.
    """

    p_mean: float = -1.2
    p_std: float = 1.2

    def __post_init__(self):
        check_number("time sampler 'lognormal'", "p_mean", self.p_mean)
        check_number("time sampler 'lognormal'", "p_std", self.p_std, above=0)

    def sample(self, perturbation, key, batch_size, state=None):
        log_sigma = self.p_mean + self.p_std * jax.random.normal(key, (batch_size,))
        number = jnp.searchsorted(jnp.asarray(_midpoints(perturbation), jnp.float32), log_sigma)
        return _times(perturbation)[number], jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        below = [NormalDist(self.p_mean, self.p_std).cdf(middle) for middle in _midpoints(perturbation)]
        return np.diff([0.0, *below, 1.0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Stateless):
    """Draws each level with a given probability, which is part of the objective.

    Args:
        weights: one for each level in rising order, not negative; they are divided by their sum.

    Raises:
        UserError: a weight that is negative or no number, or no weight above 0.
    """

    weights: Sequence | np.ndarray

    def __post_init__(self):
        for value in self.weights:
            check_number("time sampler 'table'", "weights", value)
            if value < 0:
                raise UserError(f"time sampler 'table': weights = {value!r}, and none may be negative")
        if not math.fsum(self.weights) > 0:
            raise UserError("time sampler 'table': no weight is above 0")
        object.__setattr__(self, "weights", tuple(float(value) for value in self.weights))

    def sample(self, perturbation, key, batch_size, state=None):
        number = _draw(key, self.probabilities(perturbation), batch_size)
        return _times(perturbation)[number], jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        if len(self.weights) != perturbation.num_steps:
            raise UserError(
                f"time sampler 'table' has {len(self.weights)} weights, and the perturbation {perturbation.num_steps} "
                "noise levels: give one for each"
            )
        return np.asarray(self.weights) / math.fsum(self.weights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneLevel(Stateless):
    """Gives every example the same level.

    Args:
        level: its number, from 1 to the perturbation's num_steps; on a chain this is t itself.
    """

    level: int

    def sample(self, perturbation, key, batch_size, state=None):
        self._check(perturbation)
        return jnp.full(batch_size, _times(perturbation)[self.level - 1]), jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        self._check(perturbation)
        return (np.arange(1, perturbation.num_steps + 1) == self.level).astype(np.float64)

    def _check(self, perturbation):
        if not 1 <= self.level <= perturbation.num_steps:
            raise UserError(f"level = {self.level}: the perturbation's noise levels are 1 to {perturbation.num_steps}")


@dataclasses.dataclass(frozen=True)
class Function(TimeSampler):
    """A user's function (perturbation, key, batch_size) -> t as a time sampler, whose probabilities are not known."""

    function: Callable

    def sample(self, perturbation, key, batch_size, state=None):
        return self.function(perturbation, key, batch_size), jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        raise UserError("a function as time sampler does not say its probabilities: write a TimeSampler for that")

    def initial_state(self, perturbation):
        return None

    def update(self, state, t, loss):
        return state


TIME_SAMPLERS = {
    "uniform": Uniform,
    "low_discrepancy": LowDiscrepancy,
    "importance": Importance,
    "lognormal": LogNormal,
    "table": Table,
}


def time_sampler(name, **options) -> TimeSampler:
    """Returns the `TimeSampler` called `name`, with these options.

    Args:
        name: a name in `TIME_SAMPLERS`, "module:attribute", or the thing itself: a `TimeSampler`, a class of them, or a
            function of (perturbation, key, batch_size, **options).

    Raises:
        UserError: an unknown name or option, or a value that the sampler does not take.
    """
    found = name if callable(name) or isinstance(name, TimeSampler) else lookup(TIME_SAMPLERS, name, "time sampler")
    if isinstance(found, TimeSampler):
        if options:
            raise UserError(f"time sampler {name!r} is made already: it takes no options")
        return found
    if isinstance(found, type):
        check_options(found, options, "time sampler", name)
        return found(**options)
    check_options(found, options, "time sampler", name, given=3)
    return Function(functools.partial(found, **options) if options else found)


def _uniform(perturbation):
    return np.full(perturbation.num_steps, 1 / perturbation.num_steps)


def _times(perturbation):
    """Returns the levels as an array that can be indexed while tracing."""
    times = perturbation.times
    return jnp.asarray(times, jnp.int32 if np.issubdtype(times.dtype, np.integer) else jnp.float32)


def _draw(key, p, batch_size):
    """Draws places in `times` with probabilities `p`, independently of each other."""
    return jax.random.choice(key, len(p), (batch_size,), p=jnp.asarray(p, jnp.float32))


def _midpoints(perturbation):
    """Returns ln(sigma / alpha) halfway between neighbouring levels: `[num_steps - 1]`, float64."""
    log_sigma = -perturbation.exact(perturbation.times).log_snr / 2
    return (log_sigma[1:] + log_sigma[:-1]) / 2
