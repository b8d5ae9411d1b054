"""Parameterizations: how the input and the output of a network are read at a noise level.

At a fixed x_t = alpha x_0 + sigma eps every output here is affine in eps, so eps_hat - eps = gain (output - target). A
new parameterization is a class and a line in `PARAMETERIZATIONS`, or a class in a file of one's own, which a config
names as `config.denoiser.prediction=my_module:MyClass`.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import Level, Perturbation
from unified_diffusion.registry import choose, lookup, suggest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameterization(abc.ABC):
    """A parameterization tells how a network is shown x_t, and how x0_hat and eps_hat are read from its output.

    A subclass defines `read`, `target` and `log_gain`. Their `level` has fields that are shaped to multiply x_t. For
    example, a network that predicts x_0 / sigma:

        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Scaled(Parameterization):
            name = "scaled"

            def read(self, output, x_t, level):
                x0 = level.sigma * output
                return x0, (x_t - level.alpha * x0) / level.sigma

            def target(self, x0, eps, level):
                return x0 / level.sigma

            def log_gain(self, level):
                return jnp.log(level.alpha)

    Attributes:
        name: the name in `PARAMETERIZATIONS`.
        between_levels: whether the network can be read between two levels of a chain; if not, it is read at the nearest
            level.

    Args:
        scale_input: whether to show the network x_t / sqrt(alpha² + sigma²), which for DDPM is x_t itself. On NCSN's
            wide range of noise scales the scaling keeps the input near unit variance, so that the network sees the same
            inputs as that of a DDPM.
        variance: "fixed" or "learned". A network with a learned variance has twice the channels in its output. The
            second half v is read as the log variance of the reverse step, (1 + v) / 2 of the way from the small choice
            to the large one. Nichol & Dhariwal 2021, eq. 15.

    Raises:
        UserError: the variance is unknown.
    """

    name: ClassVar[str]
    between_levels: ClassVar[bool] = True

    scale_input: bool = False
    variance: str = "fixed"

    def __post_init__(self):
        choose(self.variance, ("fixed", "learned"), "variance")

    @abc.abstractmethod
    def read(self, output, x_t, level: Level) -> tuple[Float[Array, " b *d"], Float[Array, " b *d"]]:
        """Returns (x0_hat, eps_hat) of the network's output at x_t, for which alpha x0_hat + sigma eps_hat = x_t."""

    @abc.abstractmethod
    def target(self, x0, eps, level: Level) -> Float[Array, " b *d"]:
        """Returns the output that `read` turns into (x0, eps), which the network learns to put out."""

    @abc.abstractmethod
    def log_gain(self, level: Level) -> Array:
        """Returns log |gain|, where eps_hat - eps = gain (output - target) at a fixed x_t."""

    def level(self, perturbation: Perturbation, t) -> Level:
        """Returns the `Level` at t, with its `step` where `read`, `target` or `log_gain` needs it."""
        return perturbation.at(t)

    def inputs(self, x_t, level: Level) -> tuple[Array, Array]:
        """Returns (x, noise label), the inputs of the network; the noise label `[B]` is the number of the level."""
        x = x_t / level.beside(x_t).norm if self.scale_input else x_t
        return x, jnp.asarray(level.number)

    def split(self, output, x_t):
        """Splits the network's output into (prediction, fraction), each shaped like x_t.

        The fraction (1 + v) / 2 tells the learned variance, see `Parameterization`; it is None for a fixed variance.

        Raises:
            UserError: the variance is learned, and the output does not have twice the channels of x_t.
        """
        if self.variance == "fixed":
            return output, None
        channels = x_t.shape[-1]
        if output.shape[-1] != 2 * channels:
            raise UserError(
                f"denoiser.variance = learned takes a network of {2 * channels} output channels, twice the data's, "
                f"and this one has {output.shape[-1]}: build it with out_channels={2 * channels}"
            )
        output, v = jnp.split(output, 2, axis=-1)
        return output, (1 + v) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eps(Parameterization):
    """The network predicts the noise, and x0 = (x_t - sigma eps) / alpha. Ho et al. 2020, eq. 15."""

    name = "eps"

    def read(self, output, x_t, level):
        return (x_t - level.sigma * output) / level.alpha, output

    def target(self, x0, eps, level):
        return eps

    def log_gain(self, level):
        return jnp.zeros_like(level.log_snr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class X0(Parameterization):
    """The network predicts the data, and eps = (x_t - alpha x0) / sigma."""

    name = "x0"

    def read(self, output, x_t, level):
        return output, (x_t - level.alpha * output) / level.sigma

    def target(self, x0, eps, level):
        return x0

    def log_gain(self, level):
        return level.log_snr / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class V(Parameterization):
    """The network predicts v = alpha eps - sigma x0, the direction of the path in angle.

    Salimans & Ho 2022, section 4.
    """

    name = "v"

    def read(self, output, x_t, level):
        norm = level.alpha**2 + level.sigma**2
        return (level.alpha * x_t - level.sigma * output) / norm, (level.sigma * x_t + level.alpha * output) / norm

    def target(self, x0, eps, level):
        return level.alpha * eps - level.sigma * x0

    def log_gain(self, level):
        return jnp.log(level.alpha) - jnp.log(level.alpha**2 + level.sigma**2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score(Parameterization):
    """The network predicts the score, -eps / sigma. Vincent 2011; Song & Ermon 2019, eq. 4."""

    name = "score"

    def read(self, output, x_t, level):
        eps = -level.sigma * output
        return (x_t - level.sigma * eps) / level.alpha, eps

    def target(self, x0, eps, level):
        return -eps / level.sigma

    def log_gain(self, level):
        return jnp.log(level.sigma)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean(Parameterization):
    """The network predicts a x0 + b x_t, which is DDPM's mu-tilde of the step to the level below.

    Ho et al. 2020, eq. 7.
    """

    name = "mean"

    between_levels = False

    def level(self, perturbation, t):
        return perturbation.at(t)._replace(step=perturbation.step(perturbation.below(t), t))

    def read(self, output, x_t, level):
        x0 = (output - level.step.b * x_t) / level.step.a
        return x0, (x_t - level.alpha * x0) / level.sigma

    def target(self, x0, eps, level):
        return level.step.a * x0 + level.step.b * (level.alpha * x0 + level.sigma * eps)

    def log_gain(self, level):
        return level.log_snr / 2 - jnp.log(level.step.a)


class OldReading(NamedTuple):
    """The second argument of the function of a `Function`.

    Versions before 0.2 called functions with it; it stays for one release.
    """

    x_t: Any
    alpha: Any
    sigma: Any
    mean_x0: Any
    mean_x_t: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Function(Parameterization):
    """A function (output, reading) -> (x0, eps) as a parameterization, for predictions of versions before 0.2.

    Args:
        function: the function, whose second argument is an `OldReading`.
        scale_input, variance: as in `Parameterization`.
    """

    function: Callable

    @property
    def name(self):
        """The name of the function."""
        return f"{self.function.__module__}:{self.function.__qualname__}"

    def level(self, perturbation, t):
        return perturbation.at(t)._replace(step=perturbation.step(perturbation.below(t), t))

    def read(self, output, x_t, level):
        return self.function(output, OldReading(x_t, level.alpha, level.sigma, level.step.a, level.step.b))

    def target(self, x0, eps, level):
        raise UserError(f"{self.name} is a function, which has no target: write it as a Parameterization")

    def log_gain(self, level):
        raise UserError(f"{self.name} is a function, which has no gain: write it as a Parameterization")


PARAMETERIZATIONS = {"eps": Eps, "x0": X0, "v": V, "score": Score, "mean": Mean}


def parameterization(name: str, **options) -> Parameterization:
    """Returns the parameterization called `name`, with these options.

        parameterization("v", scale_input=True)

    Args:
        name: a name in `PARAMETERIZATIONS`, or "module:Class" for one of one's own.
        options: the fields of that class.

    Raises:
        UserError: the name or an option is unknown, or an option does not take its value.
    """
    found = lookup(PARAMETERIZATIONS, name, "prediction")
    fields = (
        [field.name for field in dataclasses.fields(found)] if isinstance(found, type) else ["scale_input", "variance"]
    )
    for option in options:
        if option not in fields:
            raise UserError(f"prediction {name!r} has no option {option!r}; {suggest(option, fields)}")
    return found(**options) if isinstance(found, type) else Function(function=found, **options)
