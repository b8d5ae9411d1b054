"""One network under another ladder: `under` against exact denoisers of a mixture on either process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Mixture

from unified_diffusion import Denoiser
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN

TRUTH = Mixture(np.array([0.3, 0.7]), np.array([[-0.5, 0.2], [0.4, -0.6]]), np.array([0.1, 0.3]))
MIXTURE = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in (TRUTH.weights, TRUTH.means, TRUTH.stds)))
COSINE = DDPM(200, "cosine")
LINEAR = DDPM()
LADDER = NCSN(30, sigma_min=0.05, sigma_max=40.0)  # between the levels of both DDPMs, and within their range


class Seen:
    """The mixture's exact network, in any prediction type, remembering its noise labels."""

    def __init__(self, process, prediction, integer_labels=False):
        self.process, self.prediction, self.integer_labels = process, prediction, integer_labels

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        self.x, self.noise_label = x, noise_label
        alpha, sigma = (level[:, None] for level in self.process.scales(self.process.label_log_snr(noise_label)))
        x0 = MIXTURE.posterior_mean(x, alpha[:, 0], sigma[:, 0])
        eps = (x - alpha * x0) / sigma
        return {"x0": x0, "eps": eps, "score": -eps / sigma, "v": alpha * eps - sigma * x0}[self.prediction]


def points(process, seed=0, per_level=20):
    """x_t at every level t: `[levels * per_level, 2]`."""
    t = np.repeat(np.arange(1, process.num_steps + 1), per_level)
    x0 = MIXTURE.sample(jax.random.key(seed), len(t))
    noise = jax.random.normal(jax.random.key(seed + 1), x0.shape)
    return process.perturb(x0, t, noise), t


@pytest.mark.parametrize(("prediction", "native"), [("x0", COSINE), ("eps", COSINE), ("v", LINEAR), ("score", LINEAR)])
def test_a_ddpm_network_under_ncsns_sigmas_is_the_exact_denoiser_there(native, prediction):
    network = Seen(native, prediction)
    x_t, t = points(LADDER)
    pred = Denoiser(network, native, prediction).under(LADDER)(x_t, t)
    sigma = np.asarray(LADDER.sigma(t), np.float64)
    exact = np.concatenate([TRUTH.x0(x[None], 1.0, s) for x, s in zip(np.asarray(x_t, np.float64), sigma, strict=True)])
    # eps in float32 is off by 1e-6 or so, and x0 = x_t - sigma eps by sigma times that.
    assert np.all(np.abs(pred.x0 - exact) <= 1e-4 * np.maximum(1, sigma / 10)[:, None])
    eps = (np.asarray(x_t, np.float64) - exact) / sigma[:, None]
    np.testing.assert_allclose(pred.eps, eps, atol=4e-5)
    np.testing.assert_allclose(pred.score * sigma[:, None], -eps, atol=4e-5)
    assert np.any(network.noise_label % 1 > 0.1)  # the labels are fractional
    assert np.all((network.noise_label >= 0) & (network.noise_label <= native.num_steps - 1))


def test_an_ncsn_network_under_ddpm_is_the_exact_denoiser_within_its_ladder():
    native = NCSN(300, sigma_min=0.005, sigma_max=300.0)
    x_t, t = points(LINEAR, per_level=1)
    pred = Denoiser(Seen(native, "eps"), native).under(LINEAR)(x_t, t)
    exact = MIXTURE.denoiser(LINEAR)(x_t, t)
    np.testing.assert_allclose(pred.eps, exact.eps, atol=1e-4)
    # x0 = (x_t - sigma eps) / alpha: what eps is off by, times sigma / alpha.
    amplified = 1e-4 + 1e-5 * np.asarray(LINEAR.sigma(t) / LINEAR.alpha(t))
    assert np.all(np.abs(pred.x0 - exact.x0) <= amplified[:, None])


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_x_t_is_alpha_x0_plus_sigma_eps_under_any_ladder(prediction):
    wide = NCSN(50, sigma_min=1e-3, sigma_max=500.0)
    x_t, t = points(wide)
    pred = Denoiser(Seen(COSINE, prediction), COSINE, prediction).under(wide)(x_t, t)
    sigma = wide.sigma(t)[:, None]
    np.testing.assert_allclose(pred.x0 + sigma * pred.eps, x_t, rtol=2e-6, atol=2e-6 * 500)
    small = t <= 10
    np.testing.assert_allclose((pred.x0 + sigma * pred.eps)[small], x_t[small], atol=2e-6)


def test_under_its_own_process_is_the_identity():
    denoiser = Denoiser(Seen(COSINE, "eps"), COSINE)
    assert denoiser.under(DDPM(200, "cosine")) == denoiser
    assert denoiser.under(LADDER).under(COSINE) == denoiser
    assert denoiser.under(LADDER).under(LINEAR) == denoiser.under(LINEAR)
    assert denoiser.under(LADDER).native == COSINE
    x_t, t = points(COSINE, per_level=1)
    for there_and_back, straight in zip(denoiser.under(LADDER).under(COSINE)(x_t, t), denoiser(x_t, t), strict=True):
        np.testing.assert_array_equal(there_and_back, straight)


def test_the_same_levels_under_another_name_give_the_native_labels_and_input():
    matched = NCSN(sigmas=np.asarray(COSINE.table.sigma[1:] / COSINE.table.alpha[1:]))
    network = Seen(COSINE, "eps")
    x_t, t = points(matched, per_level=1)
    pred = Denoiser(network, COSINE).under(matched)(x_t, t)
    np.testing.assert_allclose(network.noise_label, t - 1, atol=2e-5)
    alpha = COSINE.alpha(t)[:, None]
    np.testing.assert_allclose(network.x, alpha * x_t, rtol=2e-6)
    np.testing.assert_allclose(pred.eps, Denoiser(network, COSINE)(alpha * x_t, t).eps, atol=5e-5)


def test_a_network_with_an_index_embedding_gets_the_nearest_integer():
    fractional, whole = Seen(COSINE, "eps"), Seen(COSINE, "eps", integer_labels=True)
    x_t, t = points(LADDER, per_level=1)
    Denoiser(fractional, COSINE).under(LADDER)(x_t, t)
    Denoiser(whole, COSINE).under(LADDER)(x_t, t)
    assert whole.noise_label.dtype == jnp.int32
    np.testing.assert_array_equal(whole.noise_label, jnp.rint(fractional.noise_label))


def test_a_mean_prediction_at_matched_levels():
    matched = NCSN(sigmas=np.asarray(LINEAR.table.sigma[1:] / LINEAR.table.alpha[1:]))
    x_t, t = points(matched, per_level=1)
    exact = MIXTURE.denoiser(matched)(x_t, t)

    def mean(x, noise_label, label=None, *, rngs=None):
        a, b = LINEAR.posterior_coefficients(t - 1, t)
        return a[:, None] * exact.x0 + b[:, None] * x

    pred = Denoiser(mean, LINEAR, "mean").under(matched)(x_t, t)
    # x0 is the mean's rounding over a, its coefficient, which is 1e-4 at the noisy end.
    a, b = LINEAR.posterior_coefficients(t - 1, t)
    x = np.abs(LINEAR.alpha(t)[:, None] * x_t)
    assert np.all(np.abs(pred.x0 - exact.x0) <= 4 * 2.0**-23 * (1 + x * (b / a)[:, None]))


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_beyond_the_ends_it_sees_the_end_and_no_more_than_it_knows(prediction):
    native = NCSN(20, sigma_min=0.1, sigma_max=5.0)
    network = Seen(native, prediction)
    wide = NCSN(40, sigma_min=1e-3, sigma_max=500.0)
    x_t, t = points(wide)
    pred = Denoiser(network, native, prediction).under(wide)(x_t, t)
    sigma = np.asarray(wide.sigma(t))
    below, above = sigma < 0.099, sigma > 5.01
    np.testing.assert_array_equal(network.noise_label[below], 0)
    np.testing.assert_array_equal(network.noise_label[above], 19)
    # Less noise than the least: x_t as it is. More than the most: shrunk to that much noise.
    np.testing.assert_allclose(network.x[below], x_t[below], rtol=1e-6)
    np.testing.assert_allclose(network.x[above], x_t[above] * (5 / sigma[above])[:, None], rtol=1e-6)
    for part in pred[:3]:
        assert np.all(np.isfinite(part))
    # The pictures stay where pictures are: the exact x0 is near the data, at any noise.
    assert np.abs(pred.x0).max() < 3
    np.testing.assert_allclose(pred.x0 + sigma[:, None] * pred.eps, x_t, rtol=2e-6, atol=2e-6)


def test_under_keeps_the_network_the_label_and_the_dropout_key():
    key = jax.random.key(3)
    denoiser = Denoiser(Seen(COSINE, "v"), COSINE, "v", label=jnp.array([1]), dropout_key=key).under(LADDER)
    assert (denoiser.prediction, denoiser.perturbation) == ("v", LADDER)
    np.testing.assert_array_equal(denoiser.label, [1])
    assert denoiser.dropout_key is key
