"""The forward process: how data are destroyed."""

import abc

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real, Shaped

from unified_diffusion.registry import choose

Time = int | float | np.number | Real[np.ndarray, "..."] | Real[Array, "..."]
Level = Float[Array, "..."]


def expand(level, x):
    """A scalar, or one number per example `[B]`, shaped to multiply `x` of shape `[B, ...]`."""
    level = jnp.asarray(level)
    return level.reshape(level.shape + (1,) * (x.ndim - level.ndim)) if level.ndim else level


class Perturbation(abc.ABC):
    """A Gaussian forward process x_t = alpha(t) x_0 + sigma(t) eps that is Markov in t.

    t = 0 is clean data. A chain's t are the integers up to num_steps, its noisiest level; a continuous process's are
    the floats up to 1. Every `t` (and `s < t`) is one number or one per example `[B]`; levels come back in its shape. A
    process is its noise levels and its prior: all else follows from
    alpha, sigma and the log signal-to-noise ratio lambda(t) = 2 log(alpha / sigma), through
    r = SNR(t) / SNR(s) = exp(lambda(t) - lambda(s)). Kingma et al. 2021, appendix A, which contains DDPM's equations 2,
    4, 6 and 7, and NCSN as a chain: Song et al. 2021, appendix B.
    """

    num_steps: int

    @property
    @abc.abstractmethod
    def levels(self):
        """The noise levels: a `Ladder` for a chain, a `Continuum` for a continuous process."""

    @property
    @abc.abstractmethod
    def prior_sigma(self) -> float:
        """Standard deviation of the prior N(0, prior_sigma² I) at the noisiest level."""

    @property
    @abc.abstractmethod
    def continuous(self) -> "Perturbation":
        """The process in continuous time: itself, or a chain's limit of ever finer steps. Song et al. 2021, section 3.

        Raises:
            UserError: a chain of a single level.
        """

    @abc.abstractmethod
    def scales(self, log_snr: Level) -> tuple[Level, Level]:
        """(alpha, sigma) at any log-SNR, on the ladder or between its levels."""

    def alpha(self, t: Time) -> Level:
        """Signal scale; 1 at t = 0."""
        return self.levels.alpha(t)

    def sigma(self, t: Time) -> Level:
        """Noise scale, in data units ([-1, 1] images); 0 at t = 0."""
        return self.levels.sigma(t)

    def log_snr(self, t: Time) -> Level:
        """lambda(t) = log(alpha² / sigma²), strictly decreasing; infinite at t = 0."""
        return self.levels.log_snr(t)

    def log_snr_change(self, s: Time, t: Time) -> Level:
        """lambda(t) - lambda(s) <= 0, without the cancellation of subtracting two rounded values; -inf for s = 0."""
        return self.levels.log_snr_change(s, t)

    def log_snr_slope(self, t: Time) -> Level:
        """dlambda/dt < 0; of a chain the central difference over its ladder, one-sided at t = 1 and num_steps.

        It is taken in float64. -dlambda/dt is g² / sigma² of the process as an SDE (Song et al. 2021), in its own t: a
        chain's counts levels, and `level_width` times the slope is the change per level of either kind.

        Raises:
            UserError: a ladder of a single level.
        """
        return self.levels.log_snr_slope(t)

    def drift(self, x: Float[Array | np.ndarray, " b *d"], t: Time) -> Float[Array, " b *d"]:
        """f(x, t) = x dlog(alpha)/dt of dx = f dt + g dw. Song et al. 2021, eq. 5.

        Raises:
            UserError: a chain; its `continuous` has one.
        """
        return expand(self.levels.log_alpha_slope(t), x) * x

    def diffusion(self, t: Time) -> Level:
        """g(t) = sigma sqrt(-dlambda/dt) of dx = f dt + g dw. Song et al. 2021, eq. 5; Kingma et al. 2021, appendix A.

        Raises:
            UserError: a chain; its `continuous` has one.
        """
        return self.levels.diffusion(t)

    @property
    def times(self) -> Shaped[np.ndarray, " num_steps"]:
        """The levels t, rising: 1 … num_steps of a chain, and as many evenly spaced ones up to 1 of another process."""
        return self.levels.times

    @property
    def level_width(self) -> float:
        """What t rises by from one of these levels to the next."""
        return self.levels.width

    def below(self, t: Time) -> Time:
        """The level one step down: t - 1 of a chain; 0 from the first level, and from between it and the second."""
        return self.levels.below(t)

    def level_number(self, t: Time):
        """Which of the levels `times` is nearest, 1 … num_steps, as integers."""
        return self.levels.number(t)

    def time_at(self, quantile: Float[Array, " b"]) -> Real[Array, " b"]:
        """t at quantiles in [0, 1) of the uniform distribution over a chain's levels, or between t_min and 1."""
        return self.levels.time_at(quantile)

    def draw_times(self, key: PRNGKeyArray, num: int) -> Real[Array, " num"]:
        """Independent t of that distribution."""
        return self.levels.draw_times(key, num)

    def noise_label(self, t):
        """The noise level as the network sees it: in levels, counted from 0. `t` may be between two of a chain."""
        return self.levels.label(t)

    def label_log_snr(self, noise_label):
        """The log-SNR that a (fractional) noise label stands for."""
        return self.levels.label_log_snr(noise_label)

    def timesteps(self, num_steps: int, spacing: str = "uniform") -> Real[np.ndarray, " steps_plus_1"]:
        """Times of a sampler that takes `num_steps` steps: `[num_steps + 1]`, decreasing from the last level to 0.

        Integers for a chain, float64 for a continuous process. Spacings are "uniform", "trailing", "quadratic",
        "log_snr" and "karras"; see `perturbations/spacings.py`. A chain takes the nearest levels, each once; a
        continuous process goes no further down than its first level, and then to 0.

        Raises:
            UserError: unknown spacing, no steps, or more than a chain has levels.
        """
        return self.levels.timesteps(num_steps, spacing)

    def perturb(
        self, x0: Float[Array | np.ndarray, " b *d"], t: Time, noise: Float[Array | np.ndarray, " b *d"]
    ) -> Float[Array, " b *d"]:
        """x_t = alpha(t) x_0 + sigma(t) noise. Ho et al. 2020, eq. 4; Song & Ermon 2019, section 3.1."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * noise

    def transition(self, s: Time, t: Time) -> tuple[Level, Level]:
        """(scale, variance) of q(x_t | x_s), s < t: alpha_t / alpha_s and sigma_t² (1 - r). Ho et al. 2020, eq. 2."""
        return self.alpha(t) / self.alpha(s), -(self.sigma(t) ** 2) * jnp.expm1(self.log_snr_change(s, t))

    def posterior_coefficients(self, s: Time, t: Time) -> tuple[Level, Level]:
        """(a, b) of E[x_s | x_t, x_0] = a x_0 + b x_t, s < t: alpha_s (1 - r), r alpha_s / alpha_t. DDPM eq. 7."""
        change = self.log_snr_change(s, t)
        return -self.alpha(s) * jnp.expm1(change), jnp.exp(change) * self.alpha(s) / self.alpha(t)

    def posterior_variance(self, s: Time, t: Time) -> Level:
        """Variance of q(x_s | x_t, x_0), s < t: sigma_s² (1 - r), DDPM's beta-tilde. Ho et al. 2020, eq. 7."""
        return -(self.sigma(s) ** 2) * jnp.expm1(self.log_snr_change(s, t))

    def reverse_variance(self, s: Time, t: Time, variance: str = "large") -> Level:
        """A fixed variance of the reverse step from t to s: "large", the transition's, or "small", the posterior's.

        For s = 0, where the posterior's is 0, "small" is that of the step from the second level to the first. Ho et al.
        2020, section 3.2.

        Raises:
            UserError: any other `variance`.
        """
        choose(variance, ("large", "small"), "variance")
        if variance == "large" or self.num_steps == 1:
            return self.transition(s, t)[1]
        first, second = self.times[:2]
        return jnp.where(jnp.asarray(s) == 0, self.posterior_variance(first, second), self.posterior_variance(s, t))

    def posterior(
        self, x0: Float[Array | np.ndarray, " b *d"], x_t: Float[Array | np.ndarray, " b *d"], s: Time, t: Time
    ) -> tuple[Float[Array, " b *d"], Level]:
        """(mean, variance) of q(x_s | x_t, x_0), s < t; (x_0, 0) for s = 0. Ho et al. 2020, eq. 6 and 7."""
        signal, noisy = self.posterior_coefficients(s, t)
        return expand(signal, x0) * x0 + expand(noisy, x0) * x_t, self.posterior_variance(s, t)

    def sample_prior(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """x at the noisiest level from the prior N(0, prior_sigma² I), of the given shape."""
        return self.prior_sigma * jax.random.normal(key, shape)

    def prior_kl(self, x0: Float[Array | np.ndarray, " b *d"]) -> Float[Array, " b"]:
        """KL(q(x_T | x_0) || prior) of each example, in nats: the bound's L_T. Ho et al. 2020, eq. 5."""
        alpha, sigma, _ = self.levels.exact(self.times[-1])
        signal, noise = (alpha / self.prior_sigma) ** 2, (sigma / self.prior_sigma) ** 2
        # In float64, since DDPM's noise is 1 but for a few millionths, and then its terms cancel.
        per_dimension = noise - 1 - np.log(noise)
        return jnp.sum(signal * jnp.square(x0) + per_dimension, axis=tuple(range(1, x0.ndim))) / 2
