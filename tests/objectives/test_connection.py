"""The connection, as a test: DDPM's L_simple and NCSN's sigma²-weighted score matching are one loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser
from unified_diffusion.objectives import Denoising
from unified_diffusion.perturbations import DDPM, NCSN

DDPM_CHAIN = DDPM(50, beta_start=1e-3, beta_end=0.2)
# The same log-SNR at every level: sigma / alpha.
NCSN_LADDER = NCSN(sigmas=DDPM_CHAIN.table.sigma[1:] / DDPM_CHAIN.table.alpha[1:])
X0 = jax.random.uniform(jax.random.key(0), (50, 3), minval=-1, maxval=1)
NOISE = jax.random.normal(jax.random.key(1), X0.shape)
T = np.arange(1, 51)


def parameters():
    rng = np.random.default_rng(0)
    shapes = {"inside": (4, 16), "outside": (16, 3)}
    return {name: jnp.asarray(rng.normal(size=shape) / 2, jnp.float32) for name, shape in shapes.items()}


def network(weights):
    """A small network of x and the noise label."""

    def apply(x, noise_label, label=None, *, rngs=None):
        inputs = jnp.concatenate([x, noise_label[:, None] / 50], axis=1)
        return jnp.tanh(inputs @ weights["inside"]) @ weights["outside"]

    return apply


def simple_loss(weights):
    """‖eps_hat(alpha x_0 + sigma eps, t) - eps‖². Ho et al. 2020, eq. 14."""
    return Denoising(reduction="sum").at(Denoiser(network(weights), DDPM_CHAIN), X0, T, NOISE)[0]


def score_matching_loss(weights):
    """sigma² ‖score_hat(x) + (x - x_0) / sigma²‖², written out. Song & Ermon 2019, eq. 5 and 6, twice."""
    denoiser = Denoiser(network(weights), DDPM_CHAIN).under(NCSN_LADDER)
    sigma = NCSN_LADDER.sigma(T)[:, None]
    score = denoiser(X0 + sigma * NOISE, T).score
    return jnp.sum(sigma**2 * (score + NOISE / sigma) ** 2, axis=1)


def ncsn_objective_loss(weights):
    """The same on the NCSN ladder, as the library's objective has it."""
    denoiser = Denoiser(network(weights), DDPM_CHAIN).under(NCSN_LADDER)
    return Denoising(reduction="sum").at(denoiser, X0, T, NOISE)[0]


def scaled_input_loss(weights):
    """The same once more without `under`: an NCSN network that shrinks its input by alpha = 1 / sqrt(1 + sigma²)."""
    inner = network(weights)

    def shrinking(x, noise_label, label=None, *, rngs=None):
        sigma = NCSN_LADDER.sigma(noise_label + 1)[:, None]
        return inner(x / jnp.sqrt(1 + sigma**2), noise_label)

    return Denoising(reduction="sum").at(Denoiser(shrinking, NCSN_LADDER), X0, T, NOISE)[0]


NCSN_LOSSES = [score_matching_loss, ncsn_objective_loss, scaled_input_loss]


@pytest.mark.parametrize("ncsn_loss", NCSN_LOSSES)
def test_the_losses_are_equal_at_every_level(ncsn_loss):
    assert NCSN_LADDER.table.alpha.min() == 1
    np.testing.assert_allclose(ncsn_loss(parameters()), simple_loss(parameters()), rtol=2e-5)


@pytest.mark.parametrize("ncsn_loss", NCSN_LOSSES)
def test_the_gradients_are_equal(ncsn_loss):
    ddpm, ncsn = (jax.grad(lambda w, loss=loss: jnp.mean(loss(w)))(parameters()) for loss in (simple_loss, ncsn_loss))
    for name in ddpm:
        np.testing.assert_allclose(ncsn[name], ddpm[name], rtol=2e-5, atol=2e-5 * np.abs(ddpm[name]).max())


def test_the_bounds_weight_is_the_same_on_both():
    """vlb "small" is (SNR_s / SNR_t - 1) / 2 on either: it knows the log-SNR alone. Kingma et al. 2021, eq. 13."""
    t = np.arange(2, 51)
    objective = Denoising(weighting="vlb", weighting_options={"variance": "small"}, reduction="sum")
    ddpm = objective.at(Denoiser(network(parameters()), DDPM_CHAIN), X0[1:], t, NOISE[1:])[0]
    ncsn = objective.at(Denoiser(network(parameters()), DDPM_CHAIN).under(NCSN_LADDER), X0[1:], t, NOISE[1:])[0]
    np.testing.assert_allclose(ncsn, ddpm, rtol=3e-5)
    log_snr = DDPM_CHAIN.table.log_snr
    error = Denoising(reduction="sum").at(Denoiser(network(parameters()), DDPM_CHAIN), X0[1:], t, NOISE[1:])[0]
    np.testing.assert_allclose(ddpm, np.expm1(log_snr[1:-1] - log_snr[2:]) / 2 * error, rtol=1e-5)
