"""Continuous processes against float64: the marginals and SDEs of the papers, and what follows from them."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import UNEVEN_BETAS, UNEVEN_SIGMAS, ddpm_chain, ncsn_chain

from unified_diffusion import Denoiser, UserError
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP


@dataclasses.dataclass(frozen=True)
class Marginals:
    """alpha(t) and sigma²(t) of q(x_t | x_0), and (dlog(alpha)/dt, g²) of the SDE where a paper gives it."""

    alpha: Callable
    variance: Callable
    rates: Callable | None = None

    def log_snr(self, t):
        return np.log(self.alpha(t) ** 2 / self.variance(t))

    def transition(self, s, t):
        scale = self.alpha(t) / self.alpha(s)
        return scale, self.variance(t) - scale**2 * self.variance(s)


def vp(low, high):
    """Song et al. 2021, eq. 32 and 33; the SDE is their eq. 11."""

    def decay(t):
        return np.exp(-0.5 * t**2 * (high - low) - t * low)

    def beta(t):
        return low + t * (high - low)

    return Marginals(lambda t: np.sqrt(decay(t)), lambda t: 1 - decay(t), lambda t: (-beta(t) / 2, beta(t)))


def sub_vp(low, high):
    """Song et al. 2021, eq. 33, whose standard deviation is VP's variance; the SDE is their eq. 13."""
    plain = vp(low, high)

    def rates(t):
        f, beta = plain.rates(t)
        return f, beta * (1 - np.exp(-2 * low * t - (high - low) * t**2))

    return Marginals(plain.alpha, lambda t: plain.variance(t) ** 2, rates)


def ve(low, high):
    """Song et al. 2021, eq. 29 and 30."""

    def sigma(t):
        return low * (high / low) ** t

    def rates(t):
        return 0 * t, sigma(t) ** 2 * 2 * np.log(high / low)

    return Marginals(np.ones_like, lambda t: sigma(t) ** 2, rates)


def cosine(offset, log_snr_min):
    """Nichol & Dhariwal 2021, eq. 17, cut off where tan² of the angle, but for the start's, is exp(-log_snr_min)."""
    start = offset / (1 + offset) * np.pi / 2
    end = np.arccos(np.cos(start) / np.sqrt(1 + np.exp(-log_snr_min)))

    def angle(t):
        return start + t * (end - start)

    return Marginals(
        lambda t: np.cos(angle(t)) / np.cos(start),
        # 1 - cos² a / cos² b, without the cancellation.
        lambda t: np.sin(angle(t) - start) * np.sin(angle(t) + start) / np.cos(start) ** 2,
        lambda t: (-(end - start) * np.tan(angle(t)), 2 * (end - start) * np.tan(angle(t))),
    )


def joined(chain, exploding):
    """The log-SNR of a chain's levels k, a straight line between any two at t = k / num_steps."""
    alpha, variance = chain.marginals()
    log_snr = np.log(alpha[1:] ** 2 / variance[1:])
    knots = np.arange(1, chain.num_steps + 1) / chain.num_steps

    def at(t):
        below_first = (t < knots[0]) * (t - knots[0]) * (log_snr[1] - log_snr[0]) * chain.num_steps
        return np.interp(t, knots, log_snr) + below_first

    if exploding:
        return Marginals(np.ones_like, lambda t: np.exp(-at(t)))
    return Marginals(lambda t: (1 + np.exp(-at(t))) ** -0.5, lambda t: 1 / (1 + np.exp(at(t))))


PROCESSES = {
    "vp": (VP(), vp(0.1, 20)),
    "vp-falling": (VP(40, beta_min=9.0, beta_max=0.5, t_min=0.02), vp(9.0, 0.5)),
    "sub-vp": (SubVP(), sub_vp(0.1, 20)),
    "ve": (VE(), ve(0.02, 100)),
    "cosine": (Cosine(), cosine(0.008, -15)),
    "cosine-no-offset": (Cosine(50, offset=0.0, log_snr_min=-8.0), cosine(0.0, -8.0)),
    "ddpm-explicit": (DDPM(betas=UNEVEN_BETAS).continuous, joined(ddpm_chain(UNEVEN_BETAS), False)),
    "ncsn-explicit": (NCSN(sigmas=UNEVEN_SIGMAS).continuous, joined(ncsn_chain(UNEVEN_SIGMAS), True)),
}
names = pytest.mark.parametrize("name", PROCESSES)


def some(values, count):
    """As many of them, evenly taken: JAX then compiles its functions for one shape."""
    return values[np.linspace(0, len(values) - 1, count).astype(int)]


def times(process, count=200, seed=0):
    """5 / 2 * count rising float32 times from t_min to 1, denser at both ends, as the float64 numbers that they are."""
    rng = np.random.default_rng(seed)
    inner = [rng.uniform(size=count), 10 ** rng.uniform(-3, -1, count), 1 - 10 ** rng.uniform(-6, -1, count)]
    found = np.float32(process.t_min) + np.concatenate(inner) * np.float32(1 - process.t_min)
    rising = np.unique(np.clip(found, process.t_min, 1).astype(np.float32))
    return some(rising, 5 * count // 2).astype(np.float64)


def either_way(t):
    """The same times as a sampler's, known beforehand, and as those that a network is trained at."""
    return t, jnp.asarray(t, jnp.float32)


@names
def test_the_marginals_are_the_papers(name):
    process, exact = PROCESSES[name]
    known = times(process)
    log_snr = exact.log_snr(known)
    for t in either_way(known):
        # A float32 exponent E is off by |E| 2^-24, and exp(E), of which alpha and sigma are made, by as much of itself.
        rtol = 1e-6 if t is known else 1e-6 + np.abs(log_snr).max() * 2**-23
        np.testing.assert_allclose(process.alpha(t), exact.alpha(known), rtol=rtol)
        np.testing.assert_allclose(np.square(process.sigma(t)), exact.variance(known), rtol=rtol)
        np.testing.assert_allclose(process.log_snr(t), log_snr, rtol=3e-7, atol=1e-6)
    _, alpha, sigma, found, *_ = process.exact(known)
    np.testing.assert_allclose(alpha, exact.alpha(known), rtol=1e-9)
    np.testing.assert_allclose(sigma**2, exact.variance(known), rtol=1e-9)
    np.testing.assert_allclose(found, log_snr, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, (_, exact) in PROCESSES.items() if exact.rates])
def test_drift_and_diffusion_are_the_papers(name):
    process, exact = PROCESSES[name]
    known = times(process)
    f, g_squared = exact.rates(known)
    x = np.random.default_rng(1).normal(size=(len(known), 2, 1)).astype(np.float32)
    for t in either_way(known):
        # Before the end the cosine's angle lacks some 1e-3 of π/2, of which its float32 rounding is a few 1e-7.
        rtol = 1e-6 if t is known else 3e-6
        np.testing.assert_allclose(process.drift(x, t), f[:, None, None] * x, rtol=rtol)
        np.testing.assert_allclose(np.square(process.diffusion(t)), g_squared, rtol=3 * rtol)
        np.testing.assert_allclose(process.log_snr_slope(t), -g_squared / exact.variance(known), rtol=3 * rtol)


@names
def test_drift_and_diffusion_move_the_marginals(name):
    """d alpha / dt = f alpha and d sigma² / dt = 2 f sigma² + g²: Särkkä & Solin 2019, eq. 5.50 and 5.51."""
    process, exact = PROCESSES[name]
    t, h = times(process, 40)[1:-1], 1e-6
    knots = np.arange(1, process.num_steps) / process.num_steps
    t = t[(np.abs(t[:, None] - knots) > 2 * h).all(axis=1) & (t < 1 - 2 * h)]  # off the corners of straight lines
    d_alpha, d_variance = ((level(t + h) - level(t - h)) / (2 * h) for level in (exact.alpha, exact.variance))
    f = np.asarray(process.drift(np.ones((len(t), 1)), t), np.float64)[:, 0]
    g_squared = np.asarray(process.diffusion(t), np.float64) ** 2
    alpha, variance = exact.alpha(t), exact.variance(t)
    np.testing.assert_allclose(f * alpha, d_alpha, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(2 * f * variance + g_squared, d_variance, rtol=1e-5, atol=1e-5 * g_squared.max())


@names
def test_clean_data_at_zero(name):
    process, _ = PROCESSES[name]
    x0, x_t = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2)), jnp.float32)
    for zero in (0.0, jnp.float32(0), 0, np.float64(0)):
        assert (process.alpha(zero), process.sigma(zero), process.log_snr(zero)) == (1, 0, np.inf)
        for t in (process.t_min, jnp.float32(0.5)):
            mean, variance = process.posterior(x0, x_t, zero, t)
            np.testing.assert_array_equal(mean, x0)
            assert variance == 0
            assert process.log_snr_change(zero, t) == -np.inf
            scale, variance = process.transition(zero, t)
            np.testing.assert_allclose((scale, variance), (process.alpha(t), process.sigma(t) ** 2), rtol=1e-6)


def neighbours(process, seed=0):
    """(s, t), float32 times a billionth to a whole of the interval apart."""
    t = times(process, seed=seed)
    rng = np.random.default_rng(seed)
    s = np.float32(t - (t - process.t_min) * 10 ** rng.uniform(-4, 0, len(t))).astype(np.float64)
    kept = some(np.flatnonzero((s >= process.t_min) & (s < t)), 400)
    return s[kept], t[kept]


@names
def test_changes_of_log_snr_do_not_cancel(name):
    process, exact = PROCESSES[name]
    known = neighbours(process)
    change = exact.log_snr(known[1]) - exact.log_snr(known[0])
    rounding = 4e-15 * np.abs(exact.log_snr(known[0])).max()
    for s, t in (known, [jnp.asarray(part, jnp.float32) for part in known], (known[0], jnp.asarray(known[1]))):
        np.testing.assert_allclose(process.log_snr_change(s, t), change, rtol=2e-6, atol=rounding)
        assert np.all(process.log_snr_change(s, t) < 0)


@names
def test_transitions_and_posteriors_are_those_of_the_marginals(name):
    process, exact = PROCESSES[name]
    known = neighbours(process, seed=1)
    scale, added = exact.transition(*known)
    # The reference subtracts: where the step is short only its leading digits are right.
    trusted = some(np.flatnonzero(added > 1e-9 * exact.variance(known[1])), 300)
    s, t = (part[trusted] for part in known)
    scale, added = scale[trusted], added[trusted]
    precision = 1 / exact.variance(s) + scale**2 / added  # Bayes' rule for Gaussians
    signal, noisy = exact.alpha(s) / exact.variance(s) / precision, scale / added / precision
    for pair in ((s, t), (jnp.asarray(s, jnp.float32), jnp.asarray(t, jnp.float32))):
        rtol = 3e-6 if pair[0] is s else 3e-6 + np.abs(exact.log_snr(t)).max() * 2**-22
        for found, true in zip(process.transition(*pair), (scale, added), strict=True):
            np.testing.assert_allclose(found, true, rtol=rtol)
        for found, true in zip(process.posterior_coefficients(*pair), (signal, noisy), strict=True):
            np.testing.assert_allclose(found, true, rtol=rtol)
        np.testing.assert_allclose(process.posterior_variance(*pair), 1 / precision, rtol=rtol)
        np.testing.assert_array_equal(process.reverse_variance(*pair), process.transition(*pair)[1])


unit = st.floats(0, 1, width=32)


@names
@given(steps=st.tuples(unit, unit, unit))
def test_any_two_transitions_compose(name, steps):
    process, _ = PROCESSES[name]
    r, s, t = sorted(np.float32(process.t_min + (1 - process.t_min) * step) for step in steps)
    (first, added), (then, more), (both, total) = (process.transition(*pair) for pair in ((r, s), (s, t), (r, t)))
    np.testing.assert_allclose(first * then, both, rtol=1e-6)
    np.testing.assert_allclose(then**2 * added + more, total, rtol=3e-6, atol=1e-12)
    change = process.log_snr_change(r, s) + process.log_snr_change(s, t)
    np.testing.assert_allclose(change, process.log_snr_change(r, t), rtol=1e-6, atol=1e-12)
    assert process.log_snr(r) >= process.log_snr(s) >= process.log_snr(t)


@names
def test_the_log_snr_falls_and_its_time_is_found_again(name):
    process, _ = PROCESSES[name]
    known = times(process)
    log_snr = process.exact(known).log_snr
    assert np.all(np.diff(log_snr) < 0)
    np.testing.assert_allclose(process.time_of(log_snr), known, rtol=1e-9, atol=1e-12)
    found = process.time_of(process.log_snr(jnp.asarray(known, jnp.float32)))
    # A log-SNR rounded in float32 moves its time by the rounding over the slope.
    slope = np.abs(np.asarray(process.log_snr_slope(known), np.float64))
    assert np.all(np.abs(found - known) <= 4e-7 * np.maximum(1, np.abs(log_snr)) / slope + 4e-7)
    for outside in (np.array([1e3, -1e3]), jnp.array([80.0, -80.0])):
        np.testing.assert_allclose(process.time_of(outside), [process.t_min, 1], rtol=1e-6)


@names
def test_scales_at_a_log_snr_are_its_alpha_and_sigma(name):
    process, exact = PROCESSES[name]
    t = times(process)
    log_snr = exact.log_snr(t)
    rtol = 5e-7 + np.abs(log_snr).max() * 2**-24
    for found, true in zip(
        process.scales(jnp.asarray(log_snr, jnp.float32)), (exact.alpha(t), np.sqrt(exact.variance(t))), strict=True
    ):
        np.testing.assert_allclose(found, true, rtol=rtol)


@names
def test_as_many_even_levels_stand_for_the_process(name):
    process, _ = PROCESSES[name]
    t, number = process.times, np.arange(process.num_steps) + 1
    np.testing.assert_allclose(t, process.t_min + process.level_width * (number - 1))
    assert (t[0], t[-1]) == (process.t_min, 1)
    for levels in either_way(t):
        np.testing.assert_array_equal(process.level_number(levels), number)
        np.testing.assert_allclose(process.below(levels), np.append(0, t[:-1]), rtol=1e-5, atol=1e-7)
        assert np.all((np.asarray(process.below(levels)) == 0) == (number == 1))
        np.testing.assert_allclose(process.noise_label(levels), number - 1, atol=1e-3)
    middle = process.t_min + process.level_width / 2
    assert process.below(middle) == 0
    label = jnp.linspace(0, process.num_steps - 1, 7)
    t = process.t_min + process.level_width * np.asarray(label, np.float64)
    np.testing.assert_allclose(process.label_log_snr(label), process.log_snr(t), rtol=1e-4, atol=1e-4)


@names
def test_times_are_drawn_evenly(name):
    process, _ = PROCESSES[name]
    t = np.sort(process.draw_times(jax.random.key(0), 20_000))
    assert t[0] >= np.float32(process.t_min)
    assert t[-1] <= 1
    even = process.t_min + (1 - process.t_min) * (np.arange(len(t)) + 0.5) / len(t)
    assert np.abs(t - even).max() < 1.95 / np.sqrt(len(t))  # Kolmogorov and Smirnov's limit at 1 in 1,000


@names
def test_a_count_of_levels_is_no_time(name):
    process, _ = PROCESSES[name]
    for t in (1, np.array([1, 0]), jnp.array(1), np.int64(1)):
        with pytest.raises(TypeError, match="float t in 0 … 1"):
            process.sigma(t)
    with pytest.raises(TypeError, match="float t in 0 … 1"):
        jax.jit(process.sigma)(jnp.array([0]))
    for t in (1.5, -0.1, np.array([0.5, 2.0]), float("nan")):
        with pytest.raises(IndexError, match="outside 0 … 1"):
            process.log_snr(t)


@names
def test_prior_is_the_noisiest_level(name):
    process, exact = PROCESSES[name]
    one = np.float64(1)
    sigma = np.sqrt(exact.variance(one)) if exact.alpha(one) == 1 else 1.0
    np.testing.assert_allclose(process.prior_sigma, sigma, rtol=1e-12)
    x0 = np.random.default_rng(0).uniform(-1, 1, size=(3, 4))
    ratio = exact.variance(one) / sigma**2
    # Of VP the ratio is 1 - alpha²: its float64 difference from 1 has 16 - 5 digits left, and the log's series more.
    off = np.expm1(np.log(ratio))
    exactly = 0.5 * np.sum((exact.alpha(one) * x0 / sigma) ** 2 + off - np.log1p(off), axis=1)
    np.testing.assert_allclose(process.prior_kl(jnp.asarray(x0, jnp.float32)), exactly, rtol=1e-5)


@names
def test_a_process_is_its_own_limit(name):
    process, _ = PROCESSES[name]
    assert process.continuous is process
    assert dataclasses.replace(process) == process
    assert hash(dataclasses.replace(process)) == hash(process)


@pytest.mark.parametrize("kind", [VP, SubVP, VE, Cosine])
@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_steps": 1}, "at least 2 levels"), ({"t_min": 0.0}, "between 0 and 1"), ({"t_min": 1.0}, "between 0 and 1")],
)
def test_bad_levels_are_refused(kind, settings, message):
    with pytest.raises(UserError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (VP, {"beta_min": 0.0}),
        (VP, {"beta_max": float("inf")}),
        (SubVP, {"beta_min": -1.0}),
        (SubVP, {"beta_max": float("nan")}),
        (VE, {"sigma_min": 0.0}),
        (VE, {"sigma_min": 3.0, "sigma_max": 2.0}),
        (VE, {"sigma_max": float("inf")}),
        (Cosine, {"offset": -0.1}),
        (Cosine, {"offset": 1.0}),
        (Cosine, {"log_snr_min": 0.0}),
        (Cosine, {"log_snr_min": -100.0}),
    ],
)
def test_bad_settings_are_refused(kind, settings):
    (name,) = list(settings)[:1]
    with pytest.raises(UserError, match=name):
        kind(**settings)


# The limits of chains.


def test_the_linear_chains_limit_is_reached_by_finer_chains():
    errors = []
    for finer in (1, 4):
        chain = DDPM(1000 * finer, beta_start=1e-4 / finer, beta_end=0.02 / finer)
        limit = chain.continuous
        assert limit == VP(1000 * finer, 0.1, 20.0, t_min=1 / (1000 * finer))
        t = np.arange(1, 1001) * finer
        errors.append(chain.table.log_snr[t] - limit.exact(t / chain.num_steps).log_snr)
        np.testing.assert_allclose(limit.noise_label(t / chain.num_steps), t - 1, atol=1e-9)
    assert (
        np.abs(errors[0]).max() < 0.1
    )  # at the first level: beta_1 is its whole integral, and beta has risen meanwhile
    np.testing.assert_allclose(errors[0][9:], 4 * errors[1][9:], rtol=0.03, atol=2e-5)


def test_the_cosine_chains_limit_has_its_levels_but_for_the_clipped_ones():
    chain = DDPM(schedule="cosine")
    limit = chain.continuous
    assert isinstance(limit, Cosine)
    t = limit.time_of(chain.table.log_snr[1:999])
    # The limit ends a hair before π/2, so its angle rises less by a third of a level in all.
    assert np.abs(t * 1000 - np.arange(1, 999)).max() < 0.5
    np.testing.assert_allclose(limit.exact(t).log_snr, chain.table.log_snr[1:999], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chain", [NCSN(), NCSN(232, 0.02, 100.0)])
def test_the_geometric_ladders_limit_has_its_levels(chain):
    limit = chain.continuous
    assert limit == VE(chain.num_steps, chain.sigma_min, chain.sigma_max)
    np.testing.assert_allclose(limit.sigma(limit.times), chain.sigma(chain.times), rtol=1e-4)  # t_min is 1e-5, not 0
    assert limit.prior_sigma == chain.prior_sigma


@pytest.mark.parametrize("chain", [DDPM(betas=UNEVEN_BETAS), NCSN(sigmas=UNEVEN_SIGMAS), DDPM(betas=DDPM()._betas)])
def test_explicit_levels_are_joined(chain):
    limit, levels = chain.continuous, np.arange(1, chain.num_steps + 1)
    for t in either_way(levels / chain.num_steps):
        np.testing.assert_allclose(limit.alpha(t), chain.alpha(levels), rtol=2e-6)
        np.testing.assert_allclose(limit.sigma(t), chain.sigma(levels), rtol=1e-5)
        np.testing.assert_allclose(limit.noise_label(t), levels - 1, atol=2e-4)
    s, t = levels[:-1], levels[1:]
    change = limit.log_snr_change(s / chain.num_steps, t / chain.num_steps)
    np.testing.assert_allclose(change, chain.log_snr_change(s, t), rtol=1e-6)
    np.testing.assert_allclose(limit.prior_sigma, chain.prior_sigma, rtol=1e-12)
    assert limit == dataclasses.replace(chain).continuous


@pytest.mark.parametrize("chain", [DDPM(1), NCSN(sigmas=(0.5,))])
def test_a_single_level_has_no_limit(chain):
    with pytest.raises(UserError, match="at least 2 levels"):
        _ = chain.continuous


@pytest.mark.parametrize("chain", [DDPM(10), NCSN()])
def test_a_chain_has_no_drift(chain):
    for asked in (lambda: chain.drift(jnp.ones((2, 1)), 1), lambda: chain.diffusion(1)):
        with pytest.raises(UserError, match=r"perturbation\.continuous"):
            asked()


@pytest.mark.parametrize("process", [PROCESSES[name][0] for name in ("vp", "ve", "cosine", "ddpm-explicit")])
def test_an_index_embedding_sees_whole_labels(process):
    seen = []

    class Indexed:
        integer_labels = True

        def __call__(self, x, noise_label, label=None, *, rngs=None):
            seen.append(noise_label)
            return x

    t = jnp.asarray(process.times[:: max(1, process.num_steps // 5)], jnp.float32)
    Denoiser(Indexed(), process)(jnp.zeros((len(t), 2)), t + 0.3 * process.level_width * (t < 0.9))
    np.testing.assert_array_equal(seen[0], process.level_number(t) - 1)
    assert seen[0].dtype == jnp.int32
