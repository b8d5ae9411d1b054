"""Time samplers: which levels are drawn, and that what re-weights leaves the expected loss as it is."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, norm

from unified_diffusion import UserError
from unified_diffusion.objectives import TIME_SAMPLERS, TimeSampler, time_sampler
from unified_diffusion.objectives.time_samplers import LossHistory, Stateless
from unified_diffusion.perturbations import DDPM, NCSN

OPTIONS = {"table": {"weights": tuple(range(10))}}
SYNTHETIC = np.geomspace(1.0, 1e-3, 10)  # a loss that differs between levels as a bound's terms do


def history(losses, count=None):
    """The state in which every level has seen these losses `[num_steps, history]`."""
    losses = jnp.asarray(losses, jnp.float32)
    count = losses.shape[1] if count is None else count
    return LossHistory(losses, jnp.full(len(losses), count, jnp.int32), jnp.arange(1, len(losses) + 1))


def draw(name, process=None, batch_size=50_000, state=None, seed=0, **options):
    process = NCSN() if process is None else process
    t, weight = time_sampler(name, **options).sample(process, jax.random.key(seed), batch_size, state)
    assert t.shape == weight.shape == (batch_size,)
    assert jnp.issubdtype(t.dtype, jnp.integer)
    return np.asarray(t), np.asarray(weight)


@pytest.mark.parametrize("process", [DDPM(1), DDPM(37), NCSN(10)])
def test_uniform_covers_one_to_the_last_level_evenly_and_never_zero(process):
    t, weight = draw("uniform", process, 100_000)
    counts = np.bincount(t, minlength=process.num_steps + 1)
    assert counts[0] == 0
    assert len(counts) == process.num_steps + 1
    np.testing.assert_array_equal(weight, 1)
    if process.num_steps > 1:
        assert chisquare(counts[1:]).pvalue > 1e-3
        # independent from one example to the next
        assert abs(np.corrcoef(t[:-1], t[1:])[0, 1]) < 4 / np.sqrt(len(t))


def test_uniform_draws_the_bits_that_it_always_drew():
    key = jax.random.key(3)
    t, _ = time_sampler("uniform").sample(DDPM(1000), key, 64)
    np.testing.assert_array_equal(t, jax.random.randint(key, (64,), 1, 1001))


@pytest.mark.parametrize(
    ("name", "options", "state"),
    [
        ("lognormal", {}, None),
        ("lognormal", {"p_mean": 0.5, "p_std": 0.3}, None),
        ("table", OPTIONS["table"], None),
        ("importance", {}, None),
        ("importance", {"uniform": 0.1}, history(np.tile(SYNTHETIC[:, None], 10))),
    ],
)
def test_levels_come_with_the_probabilities_that_the_sampler_says(name, options, state):
    process = NCSN()
    p = np.asarray(time_sampler(name, **options).probabilities(process, state), np.float64)
    assert p.shape == (10,)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
    t, weight = draw(name, process, state=state, **options)
    counts = np.bincount(t, minlength=11)[1:]
    assert np.all(counts[p == 0] == 0)
    assert chisquare(counts[p > 0], len(t) * p[p > 0] / p[p > 0].sum()).pvalue > 1e-3
    expected = 1 / (10 * p[t - 1]) if time_sampler(name, **options).reweights else np.ones(len(t))
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize("name", TIME_SAMPLERS)
def test_a_key_gives_the_same_levels_and_another_key_others_jitted_or_not(name):
    sampler, process = time_sampler(name, **OPTIONS.get(name, {})), NCSN()
    state = sampler.initial_state(process)
    first, again, other = (sampler.sample(process, jax.random.key(seed), 64, state)[0] for seed in (0, 0, 1))
    jitted = jax.jit(lambda key: sampler.sample(process, key, 64, state)[0])(jax.random.key(0))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, jitted)
    assert np.any(np.asarray(first) != other)


@pytest.mark.parametrize(("levels", "batch"), [(10, 64), (1000, 64), (7, 7), (1, 5), (37, 1000)])
def test_low_discrepancy_gives_every_run_of_levels_its_share(levels, batch):
    process = DDPM(levels, beta_start=1e-4, beta_end=2e-4)
    for seed in range(20):
        t, weight = draw("low_discrepancy", process, batch, seed=seed)
        np.testing.assert_array_equal(weight, 1)
        assert t.min() >= 1
        assert t.max() <= levels
        below = np.concatenate([[0], np.cumsum(np.bincount(t, minlength=levels + 1)[1:])])
        start, end = np.triu_indices(levels + 1, 1) if levels < 40 else (np.arange(levels), np.arange(1, levels + 1))
        share = batch * (end - start) / levels
        assert np.all(np.abs(below[end] - below[start] - share) < 1 + 1e-3)


def test_low_discrepancy_is_uniform_for_each_example():
    sampler, process = time_sampler("low_discrepancy"), NCSN()
    t = jax.vmap(lambda key: sampler.sample(process, key, 4)[0])(jax.random.split(jax.random.key(0), 20_000))
    for example in np.asarray(t).T:
        assert chisquare(np.bincount(example, minlength=11)[1:]).pvalue > 1e-3


def test_low_discrepancy_means_vary_less():
    keys = jax.random.split(jax.random.key(0), 500)
    spread = {}
    for name in ("uniform", "low_discrepancy"):
        t = jax.vmap(lambda key, name=name: time_sampler(name).sample(NCSN(), key, 64)[0])(keys)
        spread[name] = np.std(np.mean(SYNTHETIC[np.asarray(t) - 1], axis=1))
    assert spread["low_discrepancy"] < spread["uniform"] / 3


@pytest.mark.parametrize("process", [NCSN(), NCSN(232, 0.02, 100.0), DDPM(), DDPM(schedule="cosine"), DDPM(1)])
def test_lognormal_is_the_nearest_level_to_a_normal_ln_sigma(process):
    """Draws of ln sigma, each sent to its nearest level one by one, in float64; and the tails to the ends."""
    sigma = process.table.sigma[1:] / process.table.alpha[1:]
    p = time_sampler("lognormal").probabilities(process)
    grid = norm.ppf((np.arange(100_000) + 0.5) / 100_000, -1.2, 1.2)
    nearest = np.searchsorted((np.log(sigma)[1:] + np.log(sigma)[:-1]) / 2, grid)
    chosen = np.abs(np.log(sigma)[nearest] - grid)
    for neighbour in (np.maximum(nearest - 1, 0), np.minimum(nearest + 1, len(sigma) - 1)):
        assert np.all(chosen <= np.abs(np.log(sigma)[neighbour] - grid))
    np.testing.assert_allclose(p, np.bincount(nearest, minlength=len(sigma)) / 100_000, atol=3e-5)
    assert np.all(p >= 0)


def test_lognormal_keeps_edms_mean_and_spread_on_a_wide_ladder():
    process = NCSN(1000, 0.0005, 100.0)
    t, _ = draw("lognormal", process, 100_000)
    log_sigma = np.log(process.table.sigma[t])
    assert abs(log_sigma.mean() + 1.2) < 4 * 1.2 / np.sqrt(len(t))
    assert abs(log_sigma.std() / 1.2 - 1) < 4 / np.sqrt(2 * len(t))


def test_importance_is_uniform_until_every_level_has_its_history():
    sampler, process = time_sampler("importance", history=3), NCSN(4)
    state = sampler.initial_state(process)
    for count in range(3):
        np.testing.assert_array_equal(sampler.probabilities(process, state), np.full(4, 0.25, np.float32))
        for t in (1, 2, 3, 4):
            last = count == 2 and t == 4
            state = sampler.update(state, jnp.array([t]), jnp.array([float(t)]))
            assert bool(np.all(np.asarray(sampler.probabilities(process, state)) == 0.25)) != last
    expected = 0.999 * np.array([1, 2, 3, 4]) / 10 + 0.001 / 4
    np.testing.assert_allclose(sampler.probabilities(process, state), expected, rtol=1e-6)


def test_importance_is_the_root_of_the_second_moment():
    """p_t ∝ sqrt(E[L_t²]). Nichol & Dhariwal 2021, eq. 18."""
    losses = np.random.default_rng(0).exponential(size=(10, 10)) * SYNTHETIC[:, None]
    moment = np.sqrt(np.mean(losses**2, axis=1))
    expected = 0.999 * moment / moment.sum() + 0.001 / 10
    np.testing.assert_allclose(time_sampler("importance").probabilities(NCSN(), history(losses)), expected, rtol=1e-6)
    # losses that are all 0 say nothing
    even = time_sampler("importance").probabilities(NCSN(), history(np.zeros((10, 10))))
    np.testing.assert_array_equal(even, np.full(10, 0.1, np.float32))


def test_importance_remembers_the_last_losses_of_each_level_in_a_batch_of_any_size():
    """Against a list for each level, one example after another."""
    sampler, process = time_sampler("importance", history=5), NCSN(4)
    rng, state = np.random.default_rng(0), sampler.initial_state(process)
    lists = [[] for _ in range(4)]
    update = jax.jit(sampler.update)
    for size in (1, 7, 64, 3, 16, 200, 2, 1):
        t, loss = rng.choice([1, 1, 1, 2, 2, 4], size), rng.normal(size=size).astype(np.float32)
        state = update(state, jnp.asarray(t), jnp.asarray(loss))
        for level, value in zip(t, loss, strict=True):
            lists[level - 1] = [*lists[level - 1], value][-5:]
        for level in range(4):
            kept = np.asarray(state.losses[level])[: min(int(state.count[level]), 5)]
            np.testing.assert_array_equal(np.sort(kept), np.sort(lists[level]))
    assert int(state.count[2]) == 0


def test_importance_has_the_mean_of_uniform_by_enumeration():
    losses = np.random.default_rng(0).exponential(size=(10, 10)) * SYNTHETIC[:, None]
    sampler, process = time_sampler("importance"), NCSN()
    for state in (sampler.initial_state(process), history(losses)):
        p = np.asarray(sampler.probabilities(process, state), np.float64)
        t, weight = draw("importance", process, 20_000, state)
        weights = np.array(
            [weight[t == level][0] if np.any(t == level) else 1 / (10 * p[level - 1]) for level in range(1, 11)]
        )
        np.testing.assert_allclose(np.sum(p * weights * SYNTHETIC), SYNTHETIC.mean(), rtol=1e-6)


def test_importance_reduces_the_variance():
    """By what eq. 18 promises: the second moment falls from E[L²] to (E sqrt(E[L²]))², but for the uniform share."""
    state = history(np.tile(SYNTHETIC[:, None], 10))
    t, weight = draw("importance", state=state)
    losses = weight * SYNTHETIC[t - 1]
    uniform = SYNTHETIC[draw("uniform")[0] - 1]
    assert abs(losses.mean() - SYNTHETIC.mean()) < 5 * losses.std() / np.sqrt(len(losses))
    assert losses.std() < 0.02 * uniform.std()


def test_table_is_normalized_and_its_length_checked():
    np.testing.assert_allclose(time_sampler("table", weights=[1, 3]).probabilities(NCSN(2)), [0.25, 0.75])
    with pytest.raises(UserError, match="has 2 weights, and the perturbation 10 noise levels"):
        time_sampler("table", weights=[1, 3]).initial_state(NCSN())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unifrom", {}, "time sampler 'unifrom': did you mean 'uniform'"),
        ("uniform", {"p_mean": 1.0}, "'uniform' has no option 'p_mean'; none"),
        ("lognormal", {"p_men": 1.0}, "did you mean 'p_mean'"),
        ("lognormal", {"p_std": 0.0}, "p_std = 0.0, and it must be a finite number above 0"),
        ("lognormal", {"p_mean": math.nan}, "p_mean = nan"),
        ("importance", {"history": 0}, "history = 0"),
        ("importance", {"uniform": 0.0}, "uniform = 0.0"),
        ("importance", {"uniform": 2.0}, "uniform at most 1"),
        ("table", {}, "'table' needs the option 'weights'"),
        ("table", {"weights": (1.0, -1.0)}, "none may be negative"),
        ("table", {"weights": (0.0, 0.0)}, "no weight is above 0"),
        ("table", {"weights": (1.0, math.inf)}, "weights = inf"),
        (7, {}, "time sampler is named by a string, not by 7"),
        (time_sampler("uniform"), {"p_mean": 1.0}, "made already"),
    ],
)
def test_mistakes_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        time_sampler(name, **options)


def second_half(perturbation, key, batch_size, skip=0):
    """One's own function."""
    half = perturbation.num_steps // 2 + skip
    return jax.random.randint(key, (batch_size,), half + 1, perturbation.num_steps + 1)


@dataclasses.dataclass(frozen=True)
class Last(Stateless):
    """One's own class."""

    before: int = 0

    def sample(self, perturbation, key, batch_size, state=None):
        return jnp.full(batch_size, perturbation.num_steps - self.before), jnp.ones(batch_size)

    def probabilities(self, perturbation, state=None):
        return np.arange(perturbation.num_steps) == perturbation.num_steps - 1 - self.before


def test_ones_own_function_or_class():
    for own in (second_half, "test_time_samplers:second_half"):
        t, weight = draw(own, batch_size=1000)
        assert set(t) == {6, 7, 8, 9, 10}
        np.testing.assert_array_equal(weight, 1)
        assert draw(own, batch_size=1000, skip=4)[0].min() == 10
        with pytest.raises(UserError, match="has no option 'skp'; did you mean 'skip'"):
            time_sampler(own, skp=1)
        with pytest.raises(UserError, match="does not say its probabilities"):
            time_sampler(own).probabilities(NCSN())
    for own in (Last, "test_time_samplers:Last"):
        assert isinstance(time_sampler(own), TimeSampler)
        np.testing.assert_array_equal(draw(own, batch_size=5, before=3)[0], np.full(5, 7))
    assert time_sampler(Last(2)) == Last(2)
