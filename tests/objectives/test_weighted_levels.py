"""What a weighting and a time sampler make together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import PROCESSES

from unified_diffusion import Denoiser, UserError
from unified_diffusion.objectives import WEIGHTINGS, Denoising, weight
from unified_diffusion.objectives.time_samplers import LossHistory
from unified_diffusion.perturbations import DDPM, NCSN

X0 = jax.random.uniform(jax.random.key(1), (10, 3), minval=-1, maxval=1)
NOISE = jax.random.normal(jax.random.key(2), X0.shape)


def network(x, noise_label, label=None, *, rngs=None):
    return jnp.sin(x) + 0.05 * noise_label[:, None]


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
@pytest.mark.parametrize("process", [DDPM(10, beta_start=0.01, beta_end=0.5), NCSN()])
def test_min_snr_is_of_the_x0_error_whatever_the_network_predicts(process, prediction):
    """min(SNR, gamma) ‖x0_hat - x0‖², or min(SNR, gamma) / (SNR + 1) ‖v_hat - v‖². Hang et al. 2023, section 3.4."""
    t = np.arange(1, 11)
    alpha, sigma = (level[t][:, None] for level in (process.table.alpha, process.table.sigma))
    x0, noise = np.asarray(X0, np.float64), np.asarray(NOISE, np.float64)
    x_t = alpha * x0 + sigma * noise
    output = np.sin(x_t) + 0.05 * (t - 1)[:, None]
    x0_hat = {
        "eps": (x_t - sigma * output) / alpha,
        "x0": output,
        "v": (alpha * x_t - sigma * output) / (alpha**2 + sigma**2),
        "score": (x_t + sigma**2 * output) / alpha,
    }[prediction]
    snr = (alpha / sigma)[:, 0] ** 2
    exact = np.minimum(snr, 5) * np.sum((x0_hat - x0) ** 2, axis=1)
    objective = Denoising(weighting="min_snr", reduction="sum")
    loss, _ = objective.at(Denoiser(network, process, prediction), X0, t, NOISE)
    # In x_t at sigma = 0.02 the noise is float32's to 1e-5.
    np.testing.assert_allclose(loss, exact, rtol=1e-4)
    if prediction == "v" and process.prior_sigma == 1:
        v = alpha * noise - sigma * x0
        exact = np.minimum(snr, 5) / (snr + 1) * np.sum((output - v) ** 2, axis=1)
        np.testing.assert_allclose(loss, exact, rtol=1e-4)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("process", [DDPM(), DDPM(schedule="cosine"), NCSN(232, 0.02, 100.0)])
def test_normalized_weights_have_mean_one_and_their_own_shape(process, name):
    t = np.arange(1, process.num_steps + 1)
    w, plain = Denoising(weighting=name, normalize=True).weight(process, t), weight(name, process, t)
    np.testing.assert_allclose(np.mean(np.asarray(w, np.float64)), 1, rtol=1e-5)
    np.testing.assert_allclose(w / w[0], plain / plain[0], rtol=1e-5)
    np.testing.assert_allclose(Denoising(weighting=name, normalize=True).weight(process, 3), w[2], rtol=1e-6)


def test_the_loss_is_weighed_by_the_normalized_weight():
    t, denoiser = np.arange(1, 11), Denoiser(network, NCSN())
    loss, metrics = Denoising(weighting="dsm", normalize=True).at(denoiser, X0, t, NOISE)
    dsm = 1 / NCSN().table.sigma[1:] ** 2
    np.testing.assert_allclose(loss, dsm / dsm.mean() * metrics["error"], rtol=1e-5)


SAMPLERS = {
    "uniform": {},
    "low_discrepancy": {},
    "importance": {},
    "lognormal": {"p_mean": 0.0},
    "table": {"weights": tuple(range(1, 11))},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_effective_weight_integrates_to_the_mean_weight(sampler):
    """∫ effective(lambda) dlambda = Σ w p: what the loss of a constant error is, p uniform where it is made up for."""
    process = NCSN()
    objective = Denoising(weighting="min_snr", time_sampler=sampler, time_sampler_options=SAMPLERS[sampler])
    state = None
    if sampler == "importance":
        losses = jnp.tile(jnp.arange(1.0, 11.0)[:, None], 10)
        state = LossHistory(losses, jnp.full(10, 10), jnp.arange(1, 11))
    log_snr, effective = objective.effective_weight(process, state)
    t = np.arange(1, 11)
    np.testing.assert_array_equal(log_snr, process.log_snr(t))
    p = {"table": np.arange(1, 11) / 55}.get(sampler, np.full(10, 0.1))
    if sampler == "lognormal":
        p = objective._time_sampler.probabilities(process)
    slope = -np.gradient(-2 * np.log(process.table.sigma[1:]))
    np.testing.assert_allclose(effective, weight("min_snr", process, t) * p / slope, rtol=1e-5)
    # and it is the mean of the weighted, re-weighted error that is drawn
    drawn, importance = objective.draw(process, jax.random.key(0), 100_000, state)
    mean = np.mean(np.asarray(objective.weight(process, drawn) * importance, np.float64))
    np.testing.assert_allclose(np.sum(effective * slope), mean, rtol=0.02)


@pytest.mark.parametrize("name", [name for name in PROCESSES if PROCESSES[name][0].num_steps > 100])
def test_a_weight_with_the_slope_in_it_is_the_same_on_every_ladder(name):
    """likelihood: ½ / T at every log-SNR; sigmoid: sigmoid(b - lambda) / T. Kingma & Gao 2023."""
    process, _ = PROCESSES[name]
    log_snr, effective = Denoising(weighting="likelihood").effective_weight(process)
    np.testing.assert_allclose(effective, 0.5 / process.num_steps, rtol=1e-6)
    _, effective = Denoising(weighting="sigmoid", weighting_options={"b": 1.0}).effective_weight(process)
    exact = 1 / (1 + np.exp(np.asarray(log_snr, np.float64) - 1)) / process.num_steps
    np.testing.assert_allclose(effective, exact, rtol=3e-6)


def test_edms_two_halves_make_its_effective_weight():
    """Kingma & Gao 2023, table 1: N(lambda; 2.4, 2.4²) (exp(-lambda) + 0.5²), here over 0.5²."""
    process = NCSN(2000, 0.0005, 500.0)
    log_snr, effective = Denoising(weighting="edm", time_sampler="lognormal").effective_weight(process)
    log_snr = np.asarray(log_snr, np.float64)[20:-20]
    normal = np.exp(-((log_snr - 2.4) ** 2) / (2 * 2.4**2)) / np.sqrt(2 * np.pi * 2.4**2)
    np.testing.assert_allclose(effective[20:-20], normal * (np.exp(-log_snr) + 0.25) / 0.25, rtol=1e-4)


def unknown(perturbation, key, batch_size):
    return jnp.full(batch_size, 1)


def test_what_has_no_effective_weight_says_so():
    with pytest.raises(UserError, match="does not say its probabilities"):
        Denoising(time_sampler=unknown).effective_weight(NCSN())
    with pytest.raises(UserError, match="at least 2 levels"):
        Denoising().effective_weight(NCSN(sigmas=(0.5,)))
    with pytest.raises(UserError, match="one for each"):
        Denoising(time_sampler="table", time_sampler_options={"weights": (1.0,)}).initial_state(NCSN())


def test_importance_multiplies_the_loss_and_remembers_it_without():
    process = NCSN()
    objective = Denoising(weighting="dsm", time_sampler="importance")
    losses = jnp.tile(jnp.geomspace(1.0, 0.01, 10)[:, None], 10)
    state = LossHistory(losses, jnp.full(10, 10), jnp.arange(1, 11))
    p = np.asarray(objective._time_sampler.probabilities(process, state))
    loss, metrics = objective(Denoiser(network, process), X0, jax.random.key(0), None, state)
    t = np.asarray(metrics["t"])
    np.testing.assert_allclose(metrics["loss"], weight("dsm", process, t) * metrics["error"], rtol=1e-6)
    np.testing.assert_allclose(loss, metrics["loss"] / (10 * p[t - 1]), rtol=1e-5)
    after = objective.update(state, metrics)
    changed = np.flatnonzero(np.any(np.asarray(after.losses != losses), axis=1)) + 1
    np.testing.assert_array_equal(changed, np.unique(t))
    # without a state, as before the first batch
    loss, metrics = objective(Denoiser(network, process), X0, jax.random.key(0))
    np.testing.assert_allclose(loss, metrics["loss"], rtol=1e-6)


@pytest.mark.parametrize("sampler", ["uniform", "low_discrepancy", "lognormal", unknown])
def test_the_others_remember_nothing(sampler):
    objective = Denoising(time_sampler=sampler)
    assert objective.initial_state(NCSN()) is None
    loss, metrics = objective(Denoiser(network, NCSN()), X0, jax.random.key(0))
    np.testing.assert_array_equal(loss, metrics["loss"])
    assert objective.update(None, metrics) is None
