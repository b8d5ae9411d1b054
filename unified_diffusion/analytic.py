"""Closed-form ground truth: Gaussian mixtures, whose every denoiser, score and density is known."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.perturbations import Perturbation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class GaussianMixture:
    """sum_k weights_k N(means_k, stds_k² I), in any dimension.

    Args:
        weights: `[K]`, positive; they are normalised to sum to 1.
        means: `[K, D]`. Images `[B, H, W, C]` are read as vectors of D = H W C dimensions.
        stds: `[K]`, isotropic standard deviations.
    """

    # Any array, since JAX rebuilds pytrees with placeholders for them.
    weights: Any
    means: Any
    stds: Any

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, " n d"]:
        """n independent draws."""
        component_key, noise_key = jax.random.split(key)
        weights, means, stds = self._arrays()
        component = jax.random.categorical(component_key, jnp.log(weights), shape=(n,))
        noise = jax.random.normal(noise_key, (n, means.shape[1]))
        return means[component] + stds[component, None] * noise

    def log_prob(
        self, x: Float[Array | np.ndarray, " b *d"], perturbation: Perturbation | None = None, t=None
    ) -> Float[Array, " b"]:
        """log density of each example, in nats; with a perturbation, that of the noised mixture q(x_t) at level t."""
        alpha, sigma = (1.0, 0.0) if perturbation is None else (perturbation.alpha(t), perturbation.sigma(t))
        return jax.nn.logsumexp(self._joint(x, alpha, sigma)[0], axis=-1)

    def denoiser(self, perturbation: Perturbation) -> Denoiser:
        """The exact denoiser: x0 = E[x_0 | x_t] at any noise level, between a ladder's levels too."""
        return Denoiser(PosteriorMean(self, perturbation), perturbation, prediction="x0")

    def posterior_mean(self, x, alpha, sigma):
        """E[x_0 | x = alpha x_0 + sigma eps], for x `[B, ...]` and scales that are numbers or `[B]`."""
        log_joint, gain = self._joint(x, alpha, sigma)
        _, means, _ = self._arrays()
        alpha = jnp.broadcast_to(alpha, x.shape[:1])[:, None, None]
        posterior_means = means + gain[..., None] * (x.reshape(len(x), 1, -1) - alpha * means)
        weights = jax.nn.softmax(log_joint, axis=-1)
        # A sum, and no product of matrices, which a GPU would round to fewer digits.
        return jnp.sum(weights[..., None] * posterior_means, axis=1).reshape(x.shape)

    def _joint(self, x, alpha, sigma):
        """log(weight_k N(x; alpha m_k, v_k)) and each component's gain alpha std_k² / v_k, both `[B, K]`."""
        weights, means, stds = self._arrays()
        alpha, sigma = (jnp.broadcast_to(level, x.shape[:1])[:, None] for level in (alpha, sigma))
        variance = (alpha * stds) ** 2 + sigma**2
        squares = jnp.sum((x.reshape(len(x), 1, -1) - alpha[..., None] * means) ** 2, axis=-1)
        log_normal = -squares / (2 * variance) - means.shape[1] / 2 * jnp.log(2 * jnp.pi * variance)
        return jnp.log(weights) + log_normal, alpha * stds**2 / variance

    def _arrays(self):
        """(weights, means, stds) in float32, the weights summing to 1."""
        weights, means, stds = (jnp.asarray(values, jnp.float32) for values in (self.weights, self.means, self.stds))
        return weights / jnp.sum(weights), means, stds


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorMean:
    """The network that a mixture's exact denoiser stands on: (x, noise_label) -> E[x_0 | x]."""

    mixture: GaussianMixture
    perturbation: Perturbation

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        del label, rngs
        return self.mixture.posterior_mean(x, *self.perturbation.scales(self.perturbation.label_log_snr(noise_label)))
