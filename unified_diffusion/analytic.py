"""Closed-form ground truth: Gaussian mixtures, whose every denoiser, score and density is known."""

import dataclasses

import jax
import jax.numpy as jnp
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

    weights: Float[Array, " k"]
    means: Float[Array, " k d"]
    stds: Float[Array, " k"]

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, " n d"]:
        """n independent draws."""
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, jnp.log(jnp.asarray(self.weights)), shape=(n,))
        noise = jax.random.normal(noise_key, (n, jnp.shape(self.means)[1]))
        return jnp.asarray(self.means)[component] + jnp.asarray(self.stds)[component, None] * noise

    def log_prob(
        self, x: Float[Array, " b *d"], perturbation: Perturbation | None = None, t=None
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
        flat = x.reshape(len(x), -1)
        alpha = jnp.broadcast_to(alpha, x.shape[:1])[:, None, None]
        means = jnp.asarray(self.means) + gain[..., None] * (flat[:, None, :] - alpha * jnp.asarray(self.means))
        return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=-1), means).reshape(x.shape)

    def _joint(self, x, alpha, sigma):
        """log(weight_k N(x; alpha m_k, v_k)) and each component's gain alpha std_k² / v_k, both `[B, K]`."""
        flat = x.reshape(len(x), -1)
        alpha, sigma = (jnp.broadcast_to(level, x.shape[:1])[:, None] for level in (alpha, sigma))
        variance = (alpha * self.stds) ** 2 + sigma**2
        squares = jnp.sum((flat[:, None, :] - alpha[..., None] * jnp.asarray(self.means)) ** 2, axis=-1)
        log_weights = jnp.log(jnp.asarray(self.weights) / jnp.sum(jnp.asarray(self.weights)))
        log_normal = -squares / (2 * variance) - flat.shape[1] / 2 * jnp.log(2 * jnp.pi * variance)
        return log_weights + log_normal, alpha * jnp.asarray(self.stds) ** 2 / variance


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorMean:
    """The network that a mixture's exact denoiser stands on: (x, noise_label) -> E[x_0 | x]."""

    mixture: GaussianMixture
    perturbation: Perturbation

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        del label, rngs
        return self.mixture.posterior_mean(x, *self.perturbation.scales(self.perturbation.label_log_snr(noise_label)))
