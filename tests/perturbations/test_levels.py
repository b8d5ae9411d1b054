"""The tables alpha, sigma and log-SNR against float64, small t included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import PROCESSES

from unified_diffusion import UserError
from unified_diffusion.perturbations import DDPM, NCSN


@pytest.mark.parametrize("name", PROCESSES)
def test_alpha_and_sigma_are_those_of_the_chain(name):
    process, chain = PROCESSES[name]
    alpha, variance = chain.marginals()
    t = np.arange(process.num_steps + 1)
    assert process.num_steps == chain.num_steps
    np.testing.assert_allclose(process.alpha(t), alpha, rtol=1e-6)
    np.testing.assert_allclose(process.sigma(t), np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(np.square(process.sigma(t)), variance, rtol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_log_snr_is_strictly_decreasing_from_infinity(name):
    process, chain = PROCESSES[name]
    alpha, variance = chain.marginals()
    log_snr = np.asarray(process.log_snr(np.arange(process.num_steps + 1)))
    assert log_snr[0] == np.inf
    np.testing.assert_allclose(log_snr[1:], np.log(alpha[1:] ** 2 / variance[1:]), rtol=2e-7, atol=2e-7)
    assert np.all(np.diff(log_snr) < 0)


@pytest.mark.parametrize("name", PROCESSES)
def test_log_snr_change_does_not_cancel(name):
    process, chain = PROCESSES[name]
    alpha, variance = chain.marginals()
    # r = SNR_t / SNR_s in one step; log r = -log(1 + variance_t / (scale_t² sigma_s²)).
    exact = -np.log1p(chain.variance[2:] / (chain.scale[2:] ** 2 * variance[1:-1]))
    t = np.arange(2, process.num_steps + 1)
    np.testing.assert_allclose(process.log_snr_change(t - 1, t), exact, rtol=1e-6)
    assert process.log_snr_change(0, 1) == -np.inf


@pytest.mark.parametrize("name", PROCESSES)
def test_log_snr_slope_is_the_central_difference_in_float64(name):
    process, chain = PROCESSES[name]
    alpha, variance = chain.marginals()
    log_snr = np.log(alpha[1:] ** 2 / variance[1:])
    exact = [
        log_snr[1] - log_snr[0],
        *((after - before) / 2 for before, after in zip(log_snr[:-2], log_snr[2:], strict=True)),
        log_snr[-1] - log_snr[-2],
    ]
    t = np.arange(1, process.num_steps + 1)
    np.testing.assert_allclose(process.log_snr_slope(t), exact, rtol=1e-6)
    assert process.log_snr_slope(1).shape == ()


def test_log_snr_slope_of_a_known_derivative():
    # ln sigma is linear in t: lambda falls by 2 ln(sigma_max / sigma_min) over all levels.
    slope = -2 * np.log(100 / 0.02) / 231
    np.testing.assert_allclose(NCSN(232, 0.02, 100.0).log_snr_slope(np.arange(1, 233)), slope, rtol=1e-6)
    # alpha² = cos² a / cos² a_0: dlambda / da = -2 tan a / (1 - alpha²).
    t = np.arange(100, 951)
    a, start = ((time / 1000 + 0.008) / 1.008 * np.pi / 2 for time in (t, 0))
    exact = -2 * np.tan(a) / (1 - (np.cos(a) / np.cos(start)) ** 2) * np.pi / 2 / 1.008 / 1000
    np.testing.assert_allclose(DDPM(schedule="cosine").log_snr_slope(t), exact, rtol=1e-3)


def test_a_single_level_has_no_slope():
    with pytest.raises(UserError, match="at least 2 levels"):
        NCSN(sigmas=(0.5,)).log_snr_slope(1)


@pytest.mark.parametrize("name", PROCESSES)
def test_scales_at_a_levels_log_snr_are_its_alpha_and_sigma(name):
    process, _ = PROCESSES[name]
    t = jnp.arange(1, process.num_steps + 1)
    log_snr = process.log_snr(t)
    alpha, sigma = process.scales(log_snr)
    # alpha and sigma are exp(±log_snr / 2) and so: the relative error is half the absolute one of the log-SNR.
    rtol = 4e-7 + float(jnp.max(jnp.abs(log_snr))) * 2**-24
    np.testing.assert_allclose(alpha, process.alpha(t), rtol=rtol)
    np.testing.assert_allclose(sigma, process.sigma(t), rtol=rtol)


@pytest.mark.parametrize("name", PROCESSES)
def test_noise_labels_count_from_zero_and_stand_for_the_levels_log_snr(name):
    process, _ = PROCESSES[name]
    t = jnp.arange(1, process.num_steps + 1)
    label = process.noise_label(t)
    np.testing.assert_array_equal(label, np.arange(process.num_steps))
    np.testing.assert_array_equal(process.label_log_snr(label), process.log_snr(t))
    np.testing.assert_allclose(process.time_of(process.log_snr(t)), t, rtol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_times_between_levels_interpolate_the_log_snr(name):
    process, _ = PROCESSES[name]
    t = jnp.arange(1, process.num_steps)
    low, high = np.asarray(process.log_snr(t), np.float64), np.asarray(process.log_snr(t + 1), np.float64)
    between = jnp.asarray(0.75 * low + 0.25 * high, jnp.float32)
    # A rounded log-SNR moves t by rounding / slope, a rounded t by a rounding of itself.
    atol = np.max(np.abs(between) * 2**-23 / (low - high)) + process.num_steps * 2**-23
    np.testing.assert_allclose(process.time_of(between), np.asarray(t) + 0.25, atol=atol, rtol=0)
    np.testing.assert_allclose(process.label_log_snr(t - 1 + 0.25), between, rtol=1e-5, atol=1e-5)
    outside = process.time_of(jnp.array([1e3, -1e3]))
    np.testing.assert_array_equal(outside, [1, process.num_steps])


@pytest.mark.parametrize("name", PROCESSES)
def test_a_traced_t_and_a_known_t_give_the_same(name):
    process, _ = PROCESSES[name]
    known = np.array([1, process.num_steps])

    def read(t):
        return process.alpha(t), process.sigma(t), process.log_snr(t), process.transition(t - 1, t)

    for traced, numpy in zip(
        jax.tree.leaves(jax.jit(read)(jnp.asarray(known))), jax.tree.leaves(read(known)), strict=True
    ):
        np.testing.assert_allclose(traced, numpy, rtol=3e-7)
    for i, t in enumerate((1, process.num_steps)):
        assert process.sigma(t).shape == ()
        assert process.sigma(t) == process.sigma(known)[i] == process.sigma(jnp.asarray(t))


def test_published_values():
    # alpha-bar at T of the linear schedule, and NCSN's ladder for [0, 1] data, doubled.
    np.testing.assert_allclose(float(DDPM().alpha(1000)) ** 2, 4.0358e-5, rtol=1e-4)
    published = [1.0, 0.59948425, 0.35938137, 0.21544347, 0.12915497, 0.07742637, 0.04641589, 0.02782559, 0.0166810]
    np.testing.assert_allclose(NCSN().sigma(np.arange(10, 0, -1)) / 2, [*published, 0.01], rtol=1e-6)
