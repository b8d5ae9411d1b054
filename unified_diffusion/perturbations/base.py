"""The forward process, which destroys data: the base class of all processes, and the values that it gives."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real, Shaped

from unified_diffusion.registry import choose

Time = int | float | np.number | Real[np.ndarray, "..."] | Real[Array, "..."]
Scale = Float[Array, "..."]


class Level(NamedTuple):
    """A noise level, or several of them: x_t = alpha x_0 + sigma eps. Every field is shaped like t.

    `Perturbation.at(t)` gives a level in float32, and `Perturbation.exact(t)` in float64.

    Attributes:
        t: the time.
        alpha: the signal scale.
        sigma: the noise scale, in data units.
        log_snr: lambda = log(alpha² / sigma²).
        number: t counted in levels from 0, as DDPM's code counts; fractional between two levels.
        step: the `Step` from the level below, where it was asked for.
    """

    t: Time
    alpha: Any
    sigma: Any
    log_snr: Any
    number: Any = None
    step: Any = None

    def beside(self, x):
        """This level with every field shaped to multiply `x` of shape `[B, ...]`."""
        return jax.tree.map(lambda value: expand(value, x), self)

    @property
    def noise_to_signal(self):
        """The ratio sigma / alpha, taken from the log-SNR, since alpha may have underflowed."""
        return namespace(self.log_snr).exp(-self.log_snr / 2)

    @property
    def norm(self):
        """The standard deviation of x_t for data of unit variance, sqrt(alpha² + sigma²)."""
        return namespace(self.alpha, self.sigma).hypot(self.alpha, self.sigma)


class Step(NamedTuple):
    """The step of a process between two levels s < t, and its reverse given x_0. Every field is shaped like s and t.

    With r = SNR(t) / SNR(s), the forward step is q(x_t | x_s) = N(scale x_s, variance) and the posterior is
    q(x_s | x_t, x_0) = N(a x_0 + b x_t, posterior_variance). Ho et al. 2020, eq. 2, 6 and 7; Kingma et al. 2021,
    appendix A.

    Attributes:
        s, t: the two times.
        scale: alpha_t / alpha_s.
        variance: sigma_t² (1 - r), DDPM's beta.
        a: alpha_s (1 - r).
        b: r alpha_s / alpha_t.
        posterior_variance: sigma_s² (1 - r), DDPM's beta-tilde.
    """

    s: Time
    t: Time
    scale: Array
    variance: Array
    a: Array
    b: Array
    posterior_variance: Array


def expand(level, x):
    """Shapes a scalar, or one number per example `[B]`, so that it multiplies `x` of shape `[B, ...]`."""
    level = jnp.asarray(level)
    return level.reshape(level.shape + (1,) * (x.ndim - level.ndim)) if level.ndim else level


def namespace(*values):
    """Gives the module `jax.numpy` if one of the values is a JAX array, and else the module `numpy`.

        xp = namespace(t)
        alpha = xp.exp(-t)

    A formula written in this way is computed in float64 where the times are known before the program runs, and in
    float32 inside the program.
    """
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


def variance_preserving(log_snr):
    """Gives (alpha, sigma) with alpha² + sigma² = 1 at a log-SNR: alpha² = sigmoid(log_snr). Kingma et al. 2021."""
    xp = namespace(log_snr)
    return xp.exp(-xp.logaddexp(0.0, -log_snr) / 2), xp.exp(-xp.logaddexp(0.0, log_snr) / 2)


def variance_exploding(log_snr):
    """Gives (alpha, sigma) with alpha = 1 at a log-SNR: sigma = exp(-log_snr / 2)."""
    xp = namespace(log_snr)
    return xp.ones_like(log_snr), xp.exp(-log_snr / 2)


class Perturbation(abc.ABC):
    """A Gaussian forward process x_t = alpha(t) x_0 + sigma(t) eps that is Markov in t.

    t = 0 is clean data. The t of a chain are the integers up to num_steps, its noisiest level; the t of a continuous
    process are the floats up to 1. Every `t` (and `s < t`) is one number or one per example `[B]`; levels come back in
    its shape. All else follows from alpha, sigma and lambda(t) = 2 log(alpha / sigma), the log signal-to-noise ratio,
    through r = SNR(t) / SNR(s) = exp(lambda(t) - lambda(s)). Kingma et al. 2021, appendix A, which contains DDPM's
    equations 2, 4, 6 and 7, and NCSN as a chain: Song et al. 2021, appendix B.

    This class declares the whole protocol. `Chain` (tables over integer levels) and `Continuous` (functions of t) are
    its two kinds, and every process is a final class of one of them.
    """

    num_steps: int

    # The noise levels.

    @abc.abstractmethod
    def at(self, t: Time) -> Level:
        """Gives the `Level` at t in float32.

        Raises:
            TypeError: t counts levels where the process is continuous, or is a float where the process is a chain.
            IndexError: t is known, and is not a time of the process.
        """

    @abc.abstractmethod
    def exact(self, t: Time) -> Level:
        """Gives the `Level` at known times in float64, as NumPy arrays: for schedules and tables."""

    @abc.abstractmethod
    def log_alpha_change(self, s: Time, t: Time) -> Scale:
        """The change log alpha(t) - log alpha(s) for s <= t, finite where both scales have underflowed in float32."""

    @abc.abstractmethod
    def log_snr_change(self, s: Time, t: Time) -> Scale:
        """The change lambda(t) - lambda(s) <= 0 for s <= t; -inf for s = 0.

        The change keeps its digits where the difference of two rounded values would lose them.
        """

    @abc.abstractmethod
    def log_snr_slope(self, t: Time) -> Scale:
        """The slope dlambda/dt < 0; a chain takes central differences over its levels, one-sided at both ends.

        -dlambda/dt is g² / sigma² of the process as an SDE (Song et al. 2021). The slope is per unit of t: the t of a
        chain counts levels, and for either kind `level_width` times the slope is the change per level.

        Raises:
            UserError: a chain of a single level.
        """

    @abc.abstractmethod
    def log_alpha_slope(self, t: Time) -> Scale:
        """The slope dlog(alpha)/dt of a continuous process.

        Raises:
            UserError: a chain; its `continuous` has one.
        """

    @abc.abstractmethod
    def diffusion(self, t: Time) -> Scale:
        """The diffusion g(t) = sigma sqrt(-dlambda/dt) of dx = f dt + g dw.

        Song et al. 2021, eq. 5; Kingma et al. 2021, appendix A.

        Raises:
            UserError: a chain; its `continuous` has one.
        """

    @abc.abstractmethod
    def scales(self, log_snr: Scale) -> tuple[Scale, Scale]:
        """Gives (alpha, sigma) at any log-SNR, at a level of the process or between two."""

    @property
    @abc.abstractmethod
    def prior_sigma(self) -> float:
        """The standard deviation of the prior N(0, prior_sigma² I) at the noisiest level."""

    @property
    @abc.abstractmethod
    def continuous(self) -> "Perturbation":
        """The process in continuous time: itself, or the limit of a chain of ever finer steps.

        Song et al. 2021, section 3.

        Raises:
            UserError: a chain of a single level.
        """

    # The times.

    @property
    @abc.abstractmethod
    def times(self) -> Shaped[np.ndarray, " num_steps"]:
        """The levels t, rising: 1 … num_steps for a chain, and num_steps even ones up to 1 for another process."""

    @property
    @abc.abstractmethod
    def level_width(self) -> float:
        """The rise of t from one entry of `times` to the next."""

    @abc.abstractmethod
    def below(self, t: Time) -> Time:
        """The level one step down: t - 1 in a chain, and t - level_width in a continuous process.

        The level below the first one is 0, and so is the level below any t between the first and the second.
        """

    @abc.abstractmethod
    def nearest(self, t: Time) -> Time:
        """The level nearest to a fractional t in a chain, and t itself in a continuous process."""

    @abc.abstractmethod
    def level_number(self, t: Time) -> Time:
        """The integer number, 1 … num_steps, of the entry of `times` that is nearest to t."""

    @abc.abstractmethod
    def time_at(self, quantile: Float[Array, " b"]) -> Real[Array, " b"]:
        """The t at quantiles in [0, 1) of the uniform distribution over the levels of a chain, or over [t_min, 1]."""

    @abc.abstractmethod
    def draw_times(self, key: PRNGKeyArray, num: int) -> Real[Array, " num"]:
        """Draws independent t, uniform over the levels of a chain or over [t_min, 1]."""

    @abc.abstractmethod
    def time_of(self, log_snr: Any) -> Time:
        """The t at a log-SNR: fractional between two levels of a chain, and the nearest end beyond the ends.

        A log-SNR that is known before the program runs is read in float64, a JAX array in float32.
        """

    @abc.abstractmethod
    def noise_label(self, t: Time) -> Any:
        """The noise level as a network is told it: t counted in levels from 0. `t` may lie between two levels."""

    @abc.abstractmethod
    def label_log_snr(self, noise_label: Any) -> Scale:
        """The log-SNR that a (fractional) noise label stands for."""

    @abc.abstractmethod
    def timesteps(self, num_steps: int, spacing: str = "uniform") -> Real[np.ndarray, " steps_plus_1"]:
        """Times of a sampler that takes `num_steps` steps: `[num_steps + 1]`, decreasing from the last level to 0.

        The times are integers for a chain and float64 for a continuous process. Spacings are "uniform", "trailing",
        "quadratic", "log_snr" and "karras"; see `perturbations/spacings.py`. A chain takes the nearest levels, each
        once; a continuous process goes no further down than its first level, and then to 0.

        Raises:
            UserError: an unknown spacing, no steps, or more steps than a chain has levels.
        """

    # The rest follows from these members, for every process.

    def alpha(self, t: Time) -> Scale:
        """The signal scale; 1 at t = 0."""
        return self.at(t).alpha

    def sigma(self, t: Time) -> Scale:
        """The noise scale, in data units ([-1, 1] images); 0 at t = 0."""
        return self.at(t).sigma

    def log_snr(self, t: Time) -> Scale:
        """lambda(t) = log(alpha² / sigma²), strictly decreasing; infinite at t = 0."""
        return self.at(t).log_snr

    def drift(self, x: Float[Array | np.ndarray, " b *d"], t: Time) -> Float[Array, " b *d"]:
        """The drift f(x, t) = x dlog(alpha)/dt of dx = f dt + g dw. Song et al. 2021, eq. 5.

        Raises:
            UserError: a chain; its `continuous` has one.
        """
        return expand(self.log_alpha_slope(t), x) * x

    def perturb(
        self, x0: Float[Array | np.ndarray, " b *d"], t: Time, noise: Float[Array | np.ndarray, " b *d"]
    ) -> Float[Array, " b *d"]:
        """Gives the noised data x_t = alpha(t) x_0 + sigma(t) noise, shaped like x_0.

            x_t = DDPM().perturb(x0, t=500, noise=jax.random.normal(key, x0.shape))

        Ho et al. 2020, eq. 4; Song & Ermon 2019, section 3.1.
        """
        level = self.at(t)
        return expand(level.alpha, x0) * x0 + expand(level.sigma, x0) * noise

    def step(self, s: Time, t: Time) -> Step:
        """Gives the `Step` between the levels s < t.

        Ratios are exponentials of a change of log alpha or of log-SNR, where a quotient of scales would underflow.
        """
        lower, upper = self.at(s), self.at(t)
        log_scale, change = self.log_alpha_change(s, t), self.log_snr_change(s, t)
        share = -jnp.expm1(change)  # 1 - r
        # The quotient of two normal float32 numbers has one rounding, and the exponential of a difference two.
        normal = upper.alpha > 1e-30
        scale = jnp.where(normal, upper.alpha / jnp.where(normal, lower.alpha, 1), jnp.exp(log_scale))
        return Step(
            s,
            t,
            scale=scale,
            variance=upper.sigma**2 * share,
            a=lower.alpha * share,
            b=jnp.exp(change - log_scale),
            posterior_variance=lower.sigma**2 * share,
        )

    def transition(self, s: Time, t: Time) -> tuple[Scale, Scale]:
        """Gives (scale, variance) of q(x_t | x_s), s < t; see `Step`. Ho et al. 2020, eq. 2."""
        step = self.step(s, t)
        return step.scale, step.variance

    def posterior_coefficients(self, s: Time, t: Time) -> tuple[Scale, Scale]:
        """Gives (a, b) of E[x_s | x_t, x_0] = a x_0 + b x_t, s < t; see `Step`. Ho et al. 2020, eq. 7."""
        step = self.step(s, t)
        return step.a, step.b

    def posterior_variance(self, s: Time, t: Time) -> Scale:
        """The variance of q(x_s | x_t, x_0), s < t; see `Step`. Ho et al. 2020, eq. 7."""
        return self.step(s, t).posterior_variance

    def reverse_variance(self, s: Time, t: Time, variance: str = "large") -> Scale:
        """A fixed variance of the reverse step from t to s: "large", the transition's, or "small", the posterior's.

        For s = 0, where the variance of the posterior is 0, "small" takes that of the step from the second level to the
        first. Ho et al. 2020, section 3.2.

        Raises:
            UserError: any other `variance`.
        """
        choose(variance, ("large", "small"), "variance")
        step = self.step(s, t)
        if variance == "large" or self.num_steps == 1:
            return step.variance
        first, second = self.times[:2]
        return jnp.where(jnp.asarray(s) == 0, self.step(first, second).posterior_variance, step.posterior_variance)

    def posterior(
        self, x0: Float[Array | np.ndarray, " b *d"], x_t: Float[Array | np.ndarray, " b *d"], s: Time, t: Time
    ) -> tuple[Float[Array, " b *d"], Scale]:
        """Gives (mean, variance) of q(x_s | x_t, x_0), s < t; (x_0, 0) for s = 0. Ho et al. 2020, eq. 6 and 7."""
        step = self.step(s, t)
        return expand(step.a, x0) * x0 + expand(step.b, x0) * x_t, step.posterior_variance

    def sample_prior(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Draws x at the noisiest level from the prior N(0, prior_sigma² I), of the given shape."""
        return self.prior_sigma * jax.random.normal(key, shape)

    def prior_kl(self, x0: Float[Array | np.ndarray, " b *d"]) -> Float[Array, " b"]:
        """The divergence KL(q(x_T | x_0) || prior) of each example, in nats.

        This divergence is the term L_T of the variational bound. Ho et al. 2020, eq. 5.
        """
        last = self.exact(self.times[-1])
        signal, noise = (last.alpha / self.prior_sigma) ** 2, (last.sigma / self.prior_sigma) ** 2
        # The terms cancel where the noise is 1 but for a few millionths, as in DDPM, so they are taken in float64.
        per_dimension = noise - 1 - np.log(noise)
        return jnp.sum(signal * jnp.square(x0) + per_dimension, axis=tuple(range(1, x0.ndim))) / 2

    @property
    def levels(self):
        """The levels under the names of the versions before 0.2, for one release: use the process itself instead."""
        from unified_diffusion.perturbations.aliases import Levels

        return Levels(self)
