"""Weightings w(t) against the papers' formulas in float64, and `vlb` against the KL that it stands for."""

import numpy as np
import pytest
from reference import PROCESSES

from unified_diffusion import UserError
from unified_diffusion.objectives import weight, weighting
from unified_diffusion.perturbations import DDPM, NCSN


def reverse_variance(chain, t, variance):
    """The reverse step's from t to t - 1: beta, or beta-tilde with beta-tilde_2 at t = 1."""
    if variance == "large":
        return chain.transition(t - 1, t)[1]
    return chain.posterior(max(t - 1, 1), max(t, 2))[2]


@pytest.mark.parametrize("name", PROCESSES)
def test_simple_is_one_and_dsm_is_one_over_the_variance(name):
    process, chain = PROCESSES[name]
    t = np.arange(1, process.num_steps + 1)
    np.testing.assert_array_equal(weight("simple", process, t), np.ones(len(t)))
    np.testing.assert_allclose(weight("dsm", process, t), 1 / chain.marginals()[1][1:], rtol=1e-6)
    assert weight("simple", process, 1).shape == ()


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("name", [name for name in PROCESSES if name.startswith("ddpm")])
def test_vlb_is_ddpms_weight(name, variance):
    """beta² / (2 var alpha_t (1 - alpha-bar_t)). Ho et al. 2020, eq. 12."""
    process, chain = PROCESSES[name]
    t = np.arange(1, process.num_steps + 1)
    beta, one_minus_alpha_bar = chain.variance[1:], chain.marginals()[1][1:]
    var = np.array([reverse_variance(chain, step, variance) for step in t])
    exact = beta**2 / (2 * var * (1 - beta) * one_minus_alpha_bar)
    np.testing.assert_allclose(weight("vlb", process, t, variance=variance), exact, rtol=2e-6)


@pytest.mark.parametrize("name", [name for name in PROCESSES if name.startswith("ncsn")])
def test_vlb_on_ncsn(name):
    """a = 1 - sigma_s² / sigma_t²; the mean is off by a sigma_t eps_err, and "large" is sigma_t² - sigma_s²."""
    process, chain = PROCESSES[name]
    s, t = chain.marginals()[1][:-1], chain.marginals()[1][1:]
    exact = (t - s) / t / 2  # (1 - s/t)² t / (2 (t - s))
    np.testing.assert_allclose(weight("vlb", process, np.arange(1, process.num_steps + 1)), exact, rtol=2e-6)


def gaussian_kl(mean, variance, other_mean, other_variance):
    """KL(N(mean, variance I) || N(other_mean, other_variance I)), in nats."""
    ratio = variance / other_variance
    return 0.5 * np.sum(ratio - 1 - np.log(ratio) + (mean - other_mean) ** 2 / other_variance, axis=-1)


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("name", ["ddpm", "ddpm-cosine-short", "ncsn", "ncsn-explicit"])
def test_vlb_times_the_squared_error_is_the_kl_of_the_reverse_step(name, variance):
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), t >= 2: w ‖eps_err‖², and a constant."""
    process, chain = PROCESSES[name]
    rng = np.random.default_rng(0)
    for t in {2, 3, process.num_steps // 2, process.num_steps}:
        x0, eps, error = rng.normal(size=(3, 7))
        alpha, var_t = (level[t] for level in chain.marginals())
        x_t = alpha * x0 + np.sqrt(var_t) * eps
        x0_hat = (x_t - np.sqrt(var_t) * (eps + error)) / alpha
        a, b, small = chain.posterior(t - 1, t)
        model = reverse_variance(chain, t, variance)
        kl = gaussian_kl(a * x0 + b * x_t, small, a * x0_hat + b * x_t, model)
        constant = gaussian_kl(np.zeros(7), small, np.zeros(7), model)
        assert constant == 0 or variance == "large"
        w = float(weight("vlb", process, t, variance=variance))
        np.testing.assert_allclose(w * np.sum(error**2), kl - constant, rtol=1e-5)


def test_vlb_of_a_single_level():
    np.testing.assert_allclose(weight("vlb", NCSN(sigmas=(0.5,)), 1, variance="small"), 0.5, rtol=1e-6)
    # one step from N(0, I) with beta: a = 1, var = beta, w = 1 / (2 (1 - beta))
    np.testing.assert_allclose(weight("vlb", DDPM(betas=(0.3,)), 1), 1 / (2 * 0.7), rtol=1e-6)


def doubled(perturbation, t, factor=2.0):
    return factor * np.ones(np.shape(t), np.float32)


def test_ones_own_weighting_by_name_or_as_a_function():
    t = np.array([1, 2])
    np.testing.assert_array_equal(weighting("test_weightings:doubled")(DDPM(5), t), [2, 2])
    np.testing.assert_array_equal(weighting("test_weightings:doubled", factor=3.0)(DDPM(5), t), [3, 3])
    np.testing.assert_array_equal(weighting(doubled, factor=4.0)(DDPM(5), t), [4, 4])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simpel", {}, "weighting 'simpel': did you mean 'simple'"),
        ("vlb", {"varience": "small"}, "no option 'varience'; did you mean 'variance'"),
        ("simple", {"variance": "small"}, "no option 'variance'; none"),
        ("test_weightings:doubld", {}, "did you mean 'doubled'"),
    ],
)
def test_unknown_weightings_and_options_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        weighting(name, **options)


def test_an_unknown_variance_is_refused():
    with pytest.raises(UserError, match="variance 'smal': did you mean 'small'"):
        weight("vlb", DDPM(5), 2, variance="smal")
