"""Closed-form ground truth: the denoisers, scores and densities of Gaussian mixtures are known exactly."""

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
    """A mixture of isotropic Gaussians, sum_k weights_k N(means_k, stds_k² I), in any dimension.

        mixture = GaussianMixture(weights=[0.5, 0.5], means=[[-1.0, 0.0], [1.0, 0.0]], stds=[0.1, 0.1])
        x_t = mixture.sample(jax.random.key(0), 100)
        score = mixture.denoiser(DDPM())(x_t, 500).score

    Args:
        weights: positive numbers `[K]`; they are normalised to sum to 1.
        means: the centres `[K, D]`. Images `[B, H, W, C]` are read as vectors of D = H W C dimensions.
        stds: the standard deviations `[K]`, each the same in every direction.
    """

    # The fields are typed as Any, since JAX rebuilds pytrees with placeholders in place of arrays.
    weights: Any
    means: Any
    stds: Any

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, " n d"]:
        """Draws n independent examples `[n, D]`."""
        component_key, noise_key = jax.random.split(key)
        weights, means, stds = self._arrays()
        component = jax.random.categorical(component_key, jnp.log(weights), shape=(n,))
        noise = jax.random.normal(noise_key, (n, means.shape[1]))
        return means[component] + stds[component, None] * noise

    def log_prob(
        self, x: Float[Array | np.ndarray, " b *d"], perturbation: Perturbation | None = None, t: Any = None
    ) -> Float[Array, " b"]:
        """The log density of each example `[B]`, in nats.

        With a perturbation it is the log density of the noised mixture q(x_t) at level t, one number or `[B]`.
        """
        alpha, sigma = (1.0, 0.0) if perturbation is None else (perturbation.alpha(t), perturbation.sigma(t))
        return jax.nn.logsumexp(self._joint(x, alpha, sigma)[0], axis=-1)

    def denoiser(self, perturbation: Perturbation) -> Denoiser:
        """The exact denoiser: x0 = E[x_0 | x_t] at any noise level, also between two levels of a chain."""
        return Denoiser(PosteriorMean(self, perturbation), perturbation, prediction="x0")

    def posterior_mean(self, x, alpha, sigma):
        """The posterior mean E[x_0 | x = alpha x_0 + sigma eps] for x `[B, ...]`; both scales are numbers or `[B]`."""
        log_joint, gain = self._joint(x, alpha, sigma)
        _, means, _ = self._arrays()
        alpha = jnp.broadcast_to(alpha, x.shape[:1])[:, None, None]
        posterior_means = means + gain[..., None] * (x.reshape(len(x), 1, -1) - alpha * means)
        weights = jax.nn.softmax(log_joint, axis=-1)
        # This is a sum, since a GPU would round a product of matrices to fewer digits.
        return jnp.sum(weights[..., None] * posterior_means, axis=1).reshape(x.shape)

    def _joint(self, x, alpha, sigma):
        """The log densities log(weight_k N(x; alpha m_k, v_k)) and the gains alpha std_k² / v_k, both `[B, K]`."""
        weights, means, stds = self._arrays()
        alpha, sigma = (jnp.broadcast_to(level, x.shape[:1])[:, None] for level in (alpha, sigma))
        variance = (alpha * stds) ** 2 + sigma**2
        squares = jnp.sum((x.reshape(len(x), 1, -1) - alpha[..., None] * means) ** 2, axis=-1)
        log_normal = -squares / (2 * variance) - means.shape[1] / 2 * jnp.log(2 * jnp.pi * variance)
        return jnp.log(weights) + log_normal, alpha * stds**2 / variance

    def _arrays(self):
        """The fields (weights, means, stds) in float32, with weights that sum to 1."""
        weights, means, stds = (jnp.asarray(values, jnp.float32) for values in (self.weights, self.means, self.stds))
        return weights / jnp.sum(weights), means, stds


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorMean:
    """The network of the exact denoiser of a mixture: (x, noise_label) -> E[x_0 | x]."""

    mixture: GaussianMixture
    perturbation: Perturbation

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        del label, rngs
        return self.mixture.posterior_mean(x, *self.perturbation.scales(self.perturbation.label_log_snr(noise_label)))
