"""Steps of the stochastic samplers against the papers' formulas in float64, on one Gaussian; and what they refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import PROCESSES

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP
from unified_diffusion.samplers import (
    AnalyticDPM,
    Ancestral,
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolver,
    EulerMaruyama,
    PredictorCorrector,
    ReverseDiffusion,
    Row,
)
from unified_diffusion.samplers.analytic_dpm import GREY_LEVEL, AnalyticDPMRow, estimate_moments
from unified_diffusion.samplers.base import noise_like
from unified_diffusion.samplers.euler_maruyama import EulerMaruyamaRow

MEAN, STD = 0.4, 0.3
GAUSSIAN = GaussianMixture(jnp.ones(1), jnp.full((1, 1), MEAN), jnp.full((1,), STD))
X = np.linspace(-1.5, 1.5, 8)[:, None]
KEYS = jax.random.split(jax.random.key(7), 8)
CHAINS = [("ddpm", 499, 500), ("ddpm", 20, 30), ("ncsn", 4, 5), ("ncsn", 2, 9)]


def normal(keys=KEYS):
    """The noise that a step draws from these keys."""
    return np.asarray(noise_like(keys, jnp.zeros((8, 1))), np.float64)


def score(x, alpha, sigma):
    """Of q(x_t), for data N(MEAN, STD²)."""
    return -(x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)


def x0_hat(x, alpha, sigma):
    return (x + sigma**2 * score(x, alpha, sigma)) / alpha


def step(sampler, process, row, keys=KEYS):
    row = jax.tree.map(lambda number: np.float32(number) if isinstance(number, float) else number, row)
    return sampler.step(GAUSSIAN.denoiser(process), jnp.asarray(X, jnp.float32), row, keys)


# Song et al. 2021, eq. 29–32 and appendix C; Nichol & Dhariwal 2021, eq. 17: t -> (alpha, sigma, dlog alpha/dt, g²).
def vp(t):
    integral, beta = 0.1 * t + 9.95 * t**2, 0.1 + 19.9 * t
    return np.exp(-integral / 2), np.sqrt(1 - np.exp(-integral)), -beta / 2, beta


def sub_vp(t):
    integral, beta = 0.1 * t + 9.95 * t**2, 0.1 + 19.9 * t
    return np.exp(-integral / 2), 1 - np.exp(-integral), -beta / 2, beta * (1 - np.exp(-2 * integral))


def ve(t):
    sigma = 0.02 * 5000**t
    return 1.0, sigma, 0.0, 2 * np.log(5000) * sigma**2


def cosine(t):
    start = 0.008 / 1.008 * np.pi / 2
    end = np.arccos(np.cos(start) / np.sqrt(1 + np.exp(15)))
    angle = start + (end - start) * t
    alpha, slope = np.cos(angle) / np.cos(start), -(end - start) * np.tan(angle)
    return alpha, np.sqrt(1 - alpha**2), slope, -2 * slope


CONTINUOUS = [(VP(), vp), (SubVP(), sub_vp), (VE(), ve), (Cosine(), cosine)]
NAMES = ["vp", "sub-vp", "ve", "cosine"]


@pytest.mark.parametrize(("process", "levels"), CONTINUOUS, ids=NAMES)
@pytest.mark.parametrize(("s", "t"), [(0.499, 0.5), (0.2, 0.25), (0.9, 1.0)])
def test_one_euler_maruyama_step(process, levels, s, t):
    alpha, sigma, drift, diffusion = levels(t)
    reverse = drift * X - diffusion * score(X, alpha, sigma)
    exact = X - reverse * (t - s) + np.sqrt(diffusion * (t - s)) * normal()
    stepped = step(EulerMaruyama(), process, EulerMaruyamaRow(s, t, t - s))
    np.testing.assert_allclose(stepped, exact, rtol=5e-6, atol=5e-6 * np.abs(exact).max())


def test_the_schedule_of_euler_maruyama_has_the_widths_of_its_steps():
    s, t, width = EulerMaruyama(num_steps=7, spacing="quadratic").schedule(VP())
    np.testing.assert_allclose(t, np.append(1, s[:-1]), rtol=1e-12)
    np.testing.assert_allclose(width, t - s, rtol=1e-12)
    assert s[-1] == 0


@pytest.mark.parametrize(("name", "s", "t"), CHAINS)
def test_one_reverse_diffusion_step_on_a_chain(name, s, t):
    process, chain = PROCESSES[name]
    scale, variance = chain.transition(s, t)
    alpha, marginal = (level[t] for level in chain.marginals())
    exact = (2 - scale) * X + variance * score(X, alpha, np.sqrt(marginal)) + np.sqrt(variance) * normal()
    np.testing.assert_allclose(step(ReverseDiffusion(), process, Row(s, t)), exact, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize(("process", "levels"), CONTINUOUS, ids=NAMES)
def test_one_reverse_diffusion_step_in_continuous_time(process, levels):
    s, t = 0.45, 0.5
    (alpha_s, sigma_s), (alpha, sigma) = levels(s)[:2], levels(t)[:2]
    scale = alpha / alpha_s
    variance = sigma**2 - scale**2 * sigma_s**2
    exact = (2 - scale) * X + variance * score(X, alpha, sigma) + np.sqrt(variance) * normal()
    np.testing.assert_allclose(step(ReverseDiffusion(), process, Row(s, t)), exact, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("process", [DDPM(6), NCSN(6), VP()])
@pytest.mark.parametrize(
    "sampler",
    [
        ReverseDiffusion(num_steps=3),
        EulerMaruyama(num_steps=3),
        ConsistentAnnealed(num_steps=3),
        AnalyticDPM(num_steps=3, moments=(0.1,) * 3),
        PredictorCorrector(num_steps=3, norms="expected"),
        PredictorCorrector(predictor="none", num_steps=3),
    ],
)
def test_the_last_step_gives_x0_hat(sampler, process):
    denoiser = Denoiser(lambda x, *_, **__: jnp.full_like(x, 0.25), process, "x0")
    denoiser = denoiser.under(sampler.process(process))
    row = jax.tree.map(lambda column: column[-1], sampler.rows(process))
    assert row.s == 0
    x = sampler.step(denoiser, jnp.asarray(X, jnp.float32), row, KEYS)
    np.testing.assert_allclose(x, np.full_like(X, 0.25), atol=2e-6)


# Consistent annealed sampling -----------------------------------------------------------------------------------------


def row_of(sampler, process, number):
    return jax.tree.map(lambda column: column[number].item(), sampler.schedule(process))


@pytest.mark.parametrize("name", ["ncsn", "ncsn-v2"])
@pytest.mark.parametrize("rate", [1.0, 1.5, 2.0])
def test_one_consistent_step_is_the_papers(name, rate):
    """On the geometric ladder: eta is one number, beta = sqrt(1 - (1 - eta)² / gamma²)."""
    process, chain = PROCESSES[name]
    sampler = ConsistentAnnealed(rate=rate)
    sigmas = np.sqrt(chain.marginals()[1])
    gamma = (sigmas[1] / sigmas[-1]) ** (1 / (chain.num_steps - 1))
    eta = 1 - gamma**rate
    beta = np.sqrt(max(1 - ((1 - eta) / gamma) ** 2, 0))
    for number in (0, 3, chain.num_steps - 2):
        row = row_of(sampler, process, number)
        s, t = row.s, row.t
        assert (s, t) == (chain.num_steps - number - 1, chain.num_steps - number)
        exact = X + eta * sigmas[t] ** 2 * score(X, 1, sigmas[t]) + beta * sigmas[s] * normal()
        np.testing.assert_allclose(step(sampler, process, row), exact, rtol=1e-5, atol=2e-5)
    row = row_of(sampler, process, -1)
    np.testing.assert_allclose(step(sampler, process, row), x0_hat(X, 1, sigmas[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "spacing"), [("ddpm", "log_snr"), ("ddpm", "uniform"), ("ncsn", "karras")])
def test_consistent_steps_leave_the_noise_that_the_next_level_has(name, spacing):
    """Of x / alpha, on any ladder: (1 - eta)² sigma_t² + beta² sigma_s² = sigma_s²."""
    process, chain = PROCESSES[name]
    alphas, variances = chain.marginals()
    s, t, eta, beta = ConsistentAnnealed(num_steps=8, spacing=spacing).schedule(process)
    noise = variances / alphas**2
    np.testing.assert_allclose((1 - eta) ** 2 * noise[t] + beta**2 * noise[s], noise[s], rtol=1e-9)
    assert np.all(beta[:-1] > 0)


def test_one_consistent_step_on_ddpm_is_that_of_x_over_alpha():
    process, chain = PROCESSES["ddpm"]
    alphas, sigmas = chain.marginals()[0], np.sqrt(chain.marginals()[1])
    sampler = ConsistentAnnealed(num_steps=100)
    row = row_of(sampler, process, 40)
    s, t = row.s, row.t
    scales = sigmas / alphas
    gamma = scales[s] / scales[t]
    eta = 1 - gamma**1.5
    # The score of x / alpha is alpha times that of x.
    scaled = X / alphas[t] + eta * scales[t] ** 2 * alphas[t] * score(X, alphas[t], sigmas[t])
    exact = alphas[s] * (scaled + np.sqrt(1 - ((1 - eta) / gamma) ** 2) * scales[s] * normal())
    np.testing.assert_allclose(step(sampler, process, row), exact, rtol=1e-5, atol=5e-6)


def test_the_rate_of_the_papers_cifar10_setting():
    """Jolicoeur-Martineau et al. 2021: step 5.6e-6 / 0.01² = 0.056 on NCSNv2's 232 levels, with one step each."""
    eta = ConsistentAnnealed(rate=1.56).schedule(PROCESSES["ncsn-v2"][0]).eta
    np.testing.assert_allclose(eta[:-1], 0.056, rtol=5e-3)


# Analytic-DPM ---------------------------------------------------------------------------------------------------------


def gamma_of(alpha, sigma):
    """E eps_hat² of the Gaussian: sigma² over the variance of x_t."""
    return sigma**2 / (alpha**2 * STD**2 + sigma**2)


@pytest.mark.parametrize("name", ["ddpm", "ncsn", "ddpm-cosine-short"])
def test_the_analytic_variance_is_the_optimum_of_a_gaussian(name):
    """With exact moments v is the variance of x_s given x_t, by conditioning their joint Gaussian."""
    process, chain = PROCESSES[name]
    sampler = AnalyticDPM(num_steps=8, clip_x0=False, last_noise=None)
    s, t, _ = sampler.schedule(process)
    alphas, variances = chain.marginals()
    moments = tuple(gamma_of(alphas[t], np.sqrt(variances[t])).tolist())
    scale = dataclasses.replace(sampler, moments=moments).schedule(process).scale
    spread = alphas**2 * STD**2 + variances
    steps = [chain.transition(*pair) for pair in zip(s, t, strict=True)]
    optimum = [spread[a] - (c * spread[a]) ** 2 / spread[b] for a, b, (c, _) in zip(s, t, steps, strict=True)]
    np.testing.assert_allclose(scale[:-1] ** 2, optimum[:-1], rtol=1e-7)
    assert scale[-1] == 0


@pytest.mark.parametrize(("process", "levels"), [(DDPM(), None), (SubVP(), sub_vp)], ids=["ddpm", "sub-vp"])
def test_fitted_moments_are_the_gaussians(process, levels):
    """Within the error of their estimate: of N draws, the variance of eps_hat² - eps² is 2 (1 - Γ²) / N."""
    number = 4000
    x0 = np.asarray(GAUSSIAN.sample(jax.random.key(1), number))
    sampler = AnalyticDPM(num_steps=8, clip_x0=False, last_noise=None)
    fitted = sampler.fitted(GAUSSIAN.denoiser(process), x0, jax.random.key(2), batch_size=1000)
    assert dataclasses.replace(fitted, moments=None) == sampler
    t = sampler.schedule(process).t
    if levels is None:
        alphas, variances = PROCESSES["ddpm"][1].marginals()
        exact = gamma_of(alphas[t], np.sqrt(variances[t]))
    else:
        exact = np.array([gamma_of(*levels(time)[:2]) for time in t])
    assert np.all(np.abs(fitted.moments - exact) < 4.5 * np.sqrt(2 * (1 - exact**2) / number) + 1e-6)
    assert np.any(np.abs(np.array(fitted.moments) - 1) > 0.1)


def test_moments_of_batches_are_those_of_all_the_data():
    """A batch that is not full counts for what it has: eps_hat is 2, so moments are 4 + 1 - mean eps² of the draws."""
    process = DDPM(10)
    denoiser = Denoiser(lambda x, *_, **__: 0 * x + 2.0, process)
    found = estimate_moments(denoiser, np.zeros((3000, 2)), jax.random.key(0), np.array([10, 3]), batch_size=700)
    np.testing.assert_allclose(found, [4, 4], atol=4.5 * np.sqrt(2 / 6000))
    with pytest.raises(UserError, match="none were given"):
        estimate_moments(denoiser, np.zeros((0, 2)), jax.random.key(0), np.array([10]))


def test_labels_go_with_the_data_that_the_moments_are_fitted_on():
    def network(x, noise_label, label=None, *, rngs=None):
        return 0 * x + label[:, None]

    denoiser = Denoiser(network, DDPM(4))
    x0, labels = np.zeros((4000, 2)), np.repeat([1, 3], 2000)
    sampler = AnalyticDPM(num_steps=2).fitted(denoiser, x0, jax.random.key(0), labels, batch_size=1000)
    np.testing.assert_allclose(sampler.moments, [5, 5], atol=4.5 * np.sqrt(2 / 8000))


@pytest.mark.parametrize(("name", "s", "t"), CHAINS)
def test_one_analytic_step_is_the_algorithm(name, s, t):
    """Bao et al. 2022, theorem 1, in their own symbols' order: lambda², then the gap that x0_hat leaves."""
    process, chain = PROCESSES[name]
    alpha, sigma = chain.marginals()[0][t], np.sqrt(chain.marginals()[1][t])
    a, b, posterior = chain.posterior(s, t)
    variance = posterior + (a * sigma / alpha) ** 2 * (1 - 0.3)
    exact = a * x0_hat(X, alpha, sigma) + b * X + np.sqrt(variance) * normal()
    sampler = AnalyticDPM(moments=(0.3,) * process.num_steps, clip_x0=False, last_noise=None)
    found, at, scale = (column[process.num_steps - t] for column in sampler.schedule(process))
    assert at == t
    if found == s:
        np.testing.assert_allclose(scale, np.sqrt(variance), rtol=1e-6)
    stepped = step(sampler, process, AnalyticDPMRow(s, t, float(np.sqrt(variance))))
    np.testing.assert_allclose(stepped, exact, rtol=1e-5, atol=5e-6)


def test_analytic_variances_keep_to_their_bounds():
    """Theorem 2: from the posterior's to the one that x0 in [-1, 1] allows, whatever the moments say."""
    process, chain = PROCESSES["ddpm"]
    for moments, unexplained in ((5.0, 0.0), (-3.0, 1.0)):
        sampler = AnalyticDPM(num_steps=20, moments=(moments,) * 20, last_noise=None)
        s, t, clipped = sampler.schedule(process)
        free = dataclasses.replace(sampler, clip_x0=False).schedule(process).scale
        alphas, variances = chain.marginals()
        a, _, posterior = np.array([chain.posterior(*pair) for pair in zip(s, t, strict=True)]).T
        gap = unexplained * variances[t] / alphas[t] ** 2
        np.testing.assert_allclose(free[:-1] ** 2, (posterior + a**2 * gap)[:-1], rtol=1e-7)
        np.testing.assert_allclose(clipped[:-1] ** 2, (posterior + a**2 * np.minimum(gap, 1))[:-1], rtol=1e-7)
    assert np.any(clipped < 0.7 * free)


def test_the_last_noise_is_kept_to_a_grey_level():
    s, t, scale = AnalyticDPM(num_steps=5, moments=(0.0,) * 5).schedule(DDPM())
    free = AnalyticDPM(num_steps=5, moments=(0.0,) * 5, last_noise=None).schedule(DDPM()).scale
    np.testing.assert_allclose(scale[-2] * np.sqrt(2 / np.pi), 2 / 255, rtol=1e-12)  # the mean of |scale z|
    assert free[-2] > 10 * scale[-2]
    np.testing.assert_array_equal(scale[:-2], free[:-2])
    two = AnalyticDPM(num_steps=5, moments=(0.0,) * 5, last_noise=2.0).schedule(DDPM()).scale
    np.testing.assert_allclose(two[-2], 2 * GREY_LEVEL)


def test_x0_hat_is_clipped_with_its_variance():
    denoiser = Denoiser(lambda x, *_, **__: jnp.full_like(x, 5.0), DDPM(6), "x0")
    a, b = DDPM(6).posterior_coefficients(3, 4)
    for clip, x0 in ((True, 1.0), (False, 5.0)):
        sampler = AnalyticDPM(moments=(0.5,) * 6, clip_x0=clip)
        stepped = sampler.step(denoiser, jnp.asarray(X, jnp.float32), AnalyticDPMRow(3, 4, np.float32(0.1)), KEYS)
        np.testing.assert_allclose(stepped, a * x0 + b * X + 0.1 * normal(), rtol=1e-5, atol=2e-6)


# Predictor-corrector --------------------------------------------------------------------------------------------------


def numbered(number):
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(KEYS)


@pytest.mark.parametrize(
    ("name", "s", "t", "predictor", "norms"),
    [
        ("ddpm", 299, 300, "reverse_diffusion", "example"),
        ("ddpm", 280, 300, "reverse_diffusion", "expected"),
        ("ddpm", 299, 300, "ancestral", "example"),
        ("ddpm", 280, 300, "none", "example"),
        ("ncsn", 4, 5, "reverse_diffusion", "example"),
        ("ncsn", 4, 5, "none", "expected"),
    ],
)
def test_one_predictor_corrector_step(name, s, t, predictor, norms):
    """Song et al. 2021, algorithms 4 and 5: x + e g + sqrt(2 e) z, e = 2 c² (r ‖z‖ / ‖g‖)²; then the predictor."""
    process, chain = PROCESSES[name]
    alpha, sigma = chain.marginals()[0][t], np.sqrt(chain.marginals()[1][t])
    scale, variance = chain.transition(s, t)
    x = X
    for number in (1, 2):
        z, g = normal(numbered(number)), score(x, alpha, sigma)
        ratio = np.abs(z) / np.abs(g) if norms == "example" else sigma
        e = 2 * scale**2 * (0.2 * ratio) ** 2
        x = x + e * g + np.sqrt(2 * e) * z
    z = normal(numbered(0))
    if predictor == "none":
        x = x * chain.marginals()[0][s] / alpha
    elif predictor == "reverse_diffusion":
        x = (2 - scale) * x + variance * score(x, alpha, sigma) + np.sqrt(variance) * z
    elif predictor == "ancestral":
        a, b, _ = chain.posterior(s, t)
        x = a * x0_hat(x, alpha, sigma) + b * x + np.sqrt(variance) * z
    sampler = PredictorCorrector(
        predictor=predictor,
        predictor_options={"clip_x0": False} if predictor == "ancestral" else {},
        corrector_steps=2,
        snr=0.2,
        norms=norms,
    )
    np.testing.assert_allclose(step(sampler, process, Row(s, t)), x, rtol=1e-4, atol=1e-5)


def test_the_corrector_leaves_each_example_to_itself():
    sampler = PredictorCorrector(num_steps=3, norms="example")
    together = step(sampler, DDPM(6), Row(3, 4))
    alone = sampler.step(GAUSSIAN.denoiser(DDPM(6)), jnp.asarray(X[:2], jnp.float32), Row(3, 4), KEYS[:2])
    np.testing.assert_allclose(alone, together[:2], rtol=1e-6)


def test_predictors_take_their_schedules_and_are_read_where_they_need():
    sampler = PredictorCorrector(predictor="euler_maruyama", num_steps=4, spacing="quadratic")
    assert sampler.process(DDPM()) == DDPM().continuous
    expected = EulerMaruyama(num_steps=4, spacing="quadratic").schedule(VP())
    for column, other in zip(sampler.schedule(VP()), expected, strict=True):
        np.testing.assert_array_equal(column, other)
    assert PredictorCorrector().process(DDPM()) == DDPM()


def test_a_predictor_is_a_sampler_or_its_name():
    named = PredictorCorrector(predictor="ancestral", predictor_options={"clip_x0": False}, num_steps=4, snr=0.1)
    given = PredictorCorrector(predictor=Ancestral(clip_x0=False), num_steps=4, snr=0.1)
    whole = PredictorCorrector(predictor=Ancestral(clip_x0=False, num_steps=4), snr=0.1)
    samples = [sampler(GAUSSIAN.denoiser(DDPM(9)), jax.random.key(0), (4, 1)) for sampler in (named, given, whole)]
    for x in samples[1:]:
        np.testing.assert_array_equal(x, samples[0])
    assert named.with_steps(3) == whole.with_steps(3) == given.with_steps(3)
    assert hash(named.with_steps(3)) == hash(whole.with_steps(3))


def test_a_predictor_is_prepared():
    denoiser, x0 = GAUSSIAN.denoiser(DDPM(6)), np.asarray(GAUSSIAN.sample(jax.random.key(1), 50))
    sampler = PredictorCorrector(predictor="analytic_dpm", num_steps=4)
    assert (sampler.needs_data, sampler.preparation_evaluations(DDPM(6))) == (True, 4)
    ready = sampler.prepare(denoiser, x0, jax.random.key(2))
    assert not ready.needs_data
    assert ready.predictor == AnalyticDPM(num_steps=4).prepare(denoiser, x0, jax.random.key(2))
    assert np.all(np.isfinite(ready(denoiser, jax.random.key(0), (4, 1))))


class Counting:
    """A network that counts its evaluations at run time."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        jax.debug.callback(self._called)
        return 0.1 * x

    def _called(self):
        self.calls += 1

    def counted(self):
        """Those since it was last asked."""
        jax.effects_barrier()
        calls, self.calls = self.calls, 0
        return calls


@pytest.mark.parametrize(
    ("sampler", "process", "evaluations"),
    [
        (EulerMaruyama(num_steps=30), DDPM(20), 30),  # more than it has levels: between them
        (EulerMaruyama(num_steps=None), VP(num_steps=11), 11),
        (ReverseDiffusion(), NCSN(9), 9),
        (ReverseDiffusion(num_steps=6), Cosine(), 6),
        (ConsistentAnnealed(), NCSN(9), 9),
        (ConsistentAnnealed(num_steps=6), SubVP(), 6),
        (PredictorCorrector(num_steps=5, corrector_steps=2), VE(), 15),
        (PredictorCorrector(num_steps=5, corrector_steps=0), DDPM(20), 5),
        (PredictorCorrector(predictor="none", num_steps=5, corrector_steps=3), DDPM(20), 16),
        (PredictorCorrector(predictor="none", corrector_steps=1), NCSN(9), 10),
        (PredictorCorrector(predictor="euler_maruyama", num_steps=5), DDPM(20), 10),
        (
            PredictorCorrector(predictor="annealed_langevin", predictor_options={"steps_per_level": 2}),
            NCSN(3),
            14,
        ),
        (PredictorCorrector(predictor="heun", num_steps=4), VP(), 11),
    ],
)
def test_evaluations_are_those_that_ran(sampler, process, evaluations):
    network = Counting()
    jax.block_until_ready(sampler(Denoiser(network, process), jax.random.key(0), (1, 3)))
    assert network.counted() == sampler.num_evaluations(process) == evaluations


@pytest.mark.parametrize("process", [DDPM(20), VE()])
def test_evaluations_of_a_fit_and_of_what_is_sampled_with_it(process):
    network, sampler = Counting(), AnalyticDPM(num_steps=6)
    denoiser = Denoiser(network, process)
    assert (sampler.preparation_evaluations(process), sampler.num_evaluations(process)) == (6, 6)
    assert sampler.needs_data
    fitted = sampler.prepare(denoiser, np.zeros((8, 3)), jax.random.key(0), batch_size=4)
    # In two batches, so that many for each example.
    assert network.counted() == 2 * sampler.preparation_evaluations(process)
    assert (fitted.preparation_evaluations(process), fitted.needs_data) == (0, False)
    assert fitted.prepare(denoiser, None, jax.random.key(0)) is fitted
    jax.block_until_ready(fitted(denoiser, jax.random.key(0), (1, 3)))
    assert network.counted() == fitted.num_evaluations(process)


class Remembering(Ancestral):
    """A predictor with a memory."""

    remembers = True

    def memory(self, x):
        return x


@pytest.mark.parametrize(
    ("sampler", "settings", "message"),
    [
        (ConsistentAnnealed, {"rate": 0.9}, "rate = 0.9"),
        (AnalyticDPM, {"moments": (0.5, float("nan"))}, "must be finite"),
        (AnalyticDPM, {"last_noise": 0.0}, "last_noise = 0"),
        (PredictorCorrector, {"predictor": "reverse_difusion"}, "did you mean 'reverse_diffusion'"),
        (
            PredictorCorrector,
            {"predictor_options": {"num_stepz": 3}},
            "no option 'num_stepz'; did you mean 'num_steps'",
        ),
        (PredictorCorrector, {"predictor": "annealed_langevin", "num_steps": 5}, "no option 'num_steps'"),
        (PredictorCorrector, {"predictor": "test_stochastic:Remembering"}, "remembers earlier steps"),
        (PredictorCorrector, {"predictor": DPMSolver()}, "remembers earlier steps"),
        (PredictorCorrector, {"predictor": Ancestral(), "predictor_options": {"eta": 1}}, "give eta to Ancestral"),
        (PredictorCorrector, {"predictor": AnnealedLangevin(), "num_steps": 5}, "no option 'num_steps'"),
        (PredictorCorrector, {"snr": 1.0}, "snr = 1"),
        (PredictorCorrector, {"corrector_steps": -1}, "corrector_steps = -1"),
        (PredictorCorrector, {"norms": "exampel"}, "did you mean 'example'"),
    ],
)
def test_bad_settings_are_refused(sampler, settings, message):
    with pytest.raises(UserError, match=message):
        sampler(**settings)


def test_an_unfitted_sampler_is_refused():
    denoiser = GAUSSIAN.denoiser(DDPM(6))
    with pytest.raises(UserError, match="has not been fitted"):
        AnalyticDPM()(denoiser, jax.random.key(0), (1, 1))
    with pytest.raises(UserError, match="5 moments for 6 steps"):
        AnalyticDPM(moments=(0.5,) * 5)(denoiser, jax.random.key(0), (1, 1))
    with pytest.raises(UserError, match="has not been fitted"):
        PredictorCorrector(predictor="analytic_dpm")(denoiser, jax.random.key(0), (1, 1))
