"""Weightings w(t) against the papers' formulas in float64, and `vlb` against the KL that it stands for."""

import dataclasses

import numpy as np
import pytest
from reference import PROCESSES, cosine_betas, ddpm_chain, geometric, ncsn_chain

from unified_diffusion import UserError
from unified_diffusion.objectives import WEIGHTINGS, Denoising, weight, weighting
from unified_diffusion.perturbations import DDPM, NCSN


def reverse_variance(chain, t, variance):
    """The reverse step's from t to t - 1: beta, or beta-tilde with beta-tilde_2 at t = 1."""
    if variance == "large":
        return chain.transition(t - 1, t)[1]
    return chain.posterior(max(t - 1, 1), max(t, 2))[2]


GOLDEN = {
    "ddpm": (DDPM(), ddpm_chain(np.linspace(1e-4, 0.02, 1000))),
    "ddpm-cosine": (DDPM(schedule="cosine"), ddpm_chain(cosine_betas(1000))),
    "ncsn": (NCSN(), ncsn_chain(geometric(0.02, 2.0, 10))),
    "ncsnv2": (NCSN(232, 0.02, 100.0), ncsn_chain(geometric(0.02, 100.0, 232))),
}


@dataclasses.dataclass(frozen=True)
class Errors:
    """One random error at every level, in each paper's own space, and what the papers' weights are made of; float64.

    Each prediction is turned into the next by its own definition, at a random x_t: none is scaled into another. A paper
    whose process is another one (EDM's has alpha = 1; v's alpha² + sigma² = 1) sees the x_t of its own scale.
    """

    chain: object

    def __post_init__(self):
        alpha, variance = (level[1:, None] for level in self.chain.marginals())
        sigma = np.sqrt(variance)
        rng = np.random.default_rng(0)
        x0, eps, error = rng.normal(size=(3, len(alpha), 5))
        x_t = alpha * x0 + sigma * eps
        x0_hat = x0 + error * sigma / alpha
        eps_hat = (x_t - alpha * x0_hat) / sigma
        norm = np.sqrt(alpha**2 + sigma**2)
        v, v_hat = (alpha / norm * e - sigma / norm * x for e, x in ((eps, x0), (eps_hat, x0_hat)))
        s, data = sigma / alpha, 0.5
        c_skip, c_out = data**2 / (s**2 + data**2), s * data / np.sqrt(s**2 + data**2)
        network, network_hat = ((x - c_skip * x_t / alpha) / c_out for x in (x0, x0_hat))
        pairs = {
            "eps": (eps, eps_hat),
            "x0": (x0, x0_hat),
            "score": (-eps / sigma, -eps_hat / sigma),
            "v": (v, v_hat),
            "edm": (network, network_hat),
        }
        values = {name: np.sum((hat - target) ** 2, axis=1) for name, (target, hat) in pairs.items()}
        slope = np.gradient(np.log(alpha[:, 0] ** 2 / variance[:, 0]))
        levels = {"snr": (alpha**2 / variance)[:, 0], "s": s[:, 0], "slope": slope}
        object.__setattr__(self, "of", values)
        vars(self).update(levels)


# name and options: the paper's own weighted loss of every level.
PAPERS = {
    ("simple", ()): lambda e: e.of["eps"],  # Ho et al. 2020, eq. 14
    ("dsm", ()): lambda e: e.of["score"],  # Vincent 2011, eq. 11
    ("x0", ()): lambda e: e.of["x0"],
    ("v", ()): lambda e: e.of["v"],  # Salimans & Ho 2022, section 4, and as a weight of the x0 error:
    ("v", (("x0", True),)): lambda e: (e.snr + 1) * e.of["x0"],
    ("truncated_snr", ()): lambda e: np.maximum(e.snr, 1) * e.of["x0"],
    ("min_snr", ()): lambda e: np.minimum(e.snr, 5) * e.of["x0"],  # Hang et al. 2023, section 3.4, for x0, eps and v
    ("min_snr", (("gamma", 2.0),)): lambda e: np.minimum(e.snr, 2) / e.snr * e.of["eps"],
    ("min_snr", (("gamma", 7.5),)): lambda e: np.minimum(e.snr, 7.5) / (e.snr + 1) * e.of["v"],
    ("soft_min_snr", ()): lambda e: (
        e.of["x0"] / (e.s**2 + 1 / 4)
    ),  # Crowson et al. 2024, for x0, and for EDM's network:
    ("soft_min_snr", (("gamma", 4.0),)): lambda e: (e.s * 0.5) ** 2 / (e.s**2 + 0.5**2) ** 2 * e.of["edm"],
    ("soft_min_snr", (("gamma", 9.0),)): lambda e: e.of["x0"] / (e.s**2 + 1 / 9),
    ("p2", ()): lambda e: e.of["eps"] / (1 + e.snr),  # Choi et al. 2022, eq. 8
    ("p2", (("gamma", 0.5), ("k", 2.0))): lambda e: e.of["eps"] / (2 + e.snr) ** 0.5,
    ("edm", ()): lambda e: e.of["edm"],  # Karras et al. 2022, eq. 8, and table 1:
    ("edm", (("sigma_data", 0.7),)): lambda e: (e.s**2 + 0.7**2) / (e.s * 0.7) ** 2 * e.of["x0"],
    # Kingma & Gao 2023, on eps; Hoogeboom et al. 2024, on x0
    ("sigmoid", ()): lambda e: -e.slope / (1 + e.snr) * e.of["eps"],
    ("sigmoid", (("b", -3.0),)): lambda e: -e.slope * np.exp(-3) / (1 + np.exp(-3) / e.snr) * e.of["x0"],
    ("likelihood", ()): lambda e: -0.5 * e.slope * e.of["eps"],  # ½ g² ‖score error‖² with g² = -sigma² dlambda/dt
}


@pytest.mark.parametrize("paper", PAPERS, ids=str)
@pytest.mark.parametrize("name", GOLDEN)
def test_the_weight_of_the_eps_error_is_the_papers_loss_in_its_own_space(name, paper):
    process, chain = GOLDEN[name]
    weighting_name, options = paper
    options = {option: value for option, value in options if option != "x0"}
    errors = Errors(chain)
    w = weight(weighting_name, process, np.arange(1, process.num_steps + 1), **options)
    assert w.dtype == np.float32
    np.testing.assert_allclose(w, PAPERS[paper](errors) / errors.of["eps"], rtol=1e-6)
    assert weight(weighting_name, process, process.num_steps, **options).shape == ()


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("name", GOLDEN)
def test_vlb_is_the_error_of_the_posterior_mean(name, variance):
    """‖mean_hat - mean‖² / (2 var). Ho et al. 2020, eq. 8 and 12."""
    process, chain = GOLDEN[name]
    errors = Errors(chain)
    t = range(1, process.num_steps + 1)
    signal = np.array([chain.posterior(step - 1, step)[0] for step in t])
    var = np.array([reverse_variance(chain, step, variance) for step in t])
    exact = signal**2 * errors.of["x0"] / (2 * var) / errors.of["eps"]
    np.testing.assert_allclose(weight("vlb", process, np.array(t), variance=variance), exact, rtol=1e-6)


@pytest.mark.parametrize("process", [process for process, _ in GOLDEN.values()])
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_finite_and_positive_at_both_ends(name, process):
    w = np.asarray(weight(name, process, np.arange(1, process.num_steps + 1)))
    assert np.all(np.isfinite(w))
    assert np.all(w > 0)


@pytest.mark.parametrize("process", [DDPM(5), NCSN(5)])
def test_extreme_options_give_the_limits(process):
    t = np.arange(1, 6)
    np.testing.assert_array_equal(weight("min_snr", process, t, gamma=1e30), np.ones(5))
    np.testing.assert_allclose(weight("soft_min_snr", process, t, gamma=1e30), np.ones(5))
    np.testing.assert_allclose(weight("sigmoid", process, t, b=1000.0), -process.log_snr_slope(t))
    np.testing.assert_array_equal(weight("sigmoid", process, t, b=-1000.0), np.zeros(5))
    np.testing.assert_allclose(weight("p2", process, t, gamma=1e-9), np.ones(5), rtol=1e-6)


def refined_ddpm(num_steps):
    """DDPM's linear schedule with its steps divided: the same process in continuous time."""
    return DDPM(num_steps, beta_start=0.1 / num_steps, beta_end=20 / num_steps)


def refined_ncsn(num_steps):
    return NCSN(num_steps, 0.02, 2.0)


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("refined", [refined_ddpm, refined_ncsn])
def test_vlb_becomes_likelihood_as_levels_are_added(refined, variance):
    errors = []
    for num_steps in (500, 2000, 8000):
        process = refined(num_steps)
        t = np.linspace(0.05, 1, 20) * num_steps
        ratio = weight("vlb", process, t.astype(int), variance=variance) / weight("likelihood", process, t.astype(int))
        errors.append(np.abs(np.asarray(ratio) - 1).max())
    assert errors[-1] < 0.01
    # Of first order: four times the levels, a fourth of the error.
    np.testing.assert_allclose(np.divide(errors[1:], errors[:-1]), 1 / 4, rtol=0.1)


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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vlb", {"variance": "smal"}, "variance 'smal': did you mean 'small'"),
        ("min_snr", {"gamma": -5}, "'min_snr': gamma = -5, and it must be a finite number above 0"),
        ("min_snr", {"gamma": float("nan")}, "gamma = nan"),
        ("soft_min_snr", {"gamma": 0}, "gamma = 0"),
        ("p2", {"gamma": -1.0}, "gamma = -1.0"),
        ("p2", {"k": 0.0}, "k = 0.0"),
        ("edm", {"sigma_data": "half"}, "sigma_data = 'half'"),
        ("sigmoid", {"b": float("inf")}, "b = inf, and it must be a finite number"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_trained(name, options, message):
    with pytest.raises(UserError, match=message):
        Denoising(weighting=name, weighting_options=options)


def demanding(perturbation, t, power):
    return perturbation.sigma(t) ** power


def test_an_option_without_a_default_is_asked_for():
    with pytest.raises(UserError, match="'test_weightings:demanding' needs the option 'power'"):
        Denoising(weighting="test_weightings:demanding")
    w = weighting("test_weightings:demanding", power=-2)(NCSN(), np.arange(1, 4))
    np.testing.assert_array_equal(w, weight("dsm", NCSN(), np.arange(1, 4)))


@pytest.mark.parametrize("name", ["sigmoid", "likelihood"])
def test_a_single_level_has_no_slope(name):
    with pytest.raises(UserError, match="at least 2 levels"):
        weight(name, NCSN(sigmas=(0.5,)), 1)
