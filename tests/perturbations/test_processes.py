"""Processes as values: equality and hashing, sampling times, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import DDPM, NCSN

SIGMAS = (0.1, 0.5, 2.0)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (DDPM(), DDPM(1000, "linear"), DDPM(999)),
        (DDPM(betas=(0.1, 0.2)), DDPM(betas=np.array([0.1, 0.2])), DDPM(betas=(0.1, 0.3))),
        (DDPM(schedule="cosine"), DDPM(schedule="cosine"), DDPM()),
        (NCSN(), NCSN(10, 0.02, 2.0), NCSN(11)),
        (NCSN(sigmas=SIGMAS), NCSN(sigmas=np.array(SIGMAS[::-1])), NCSN(sigmas=(0.1, 0.5, 2.5))),
        (NCSN(), NCSN(), DDPM(10)),
    ],
)
def test_equal_processes_are_equal_and_hash_alike(one, same, other):
    one.alpha(1)  # what is cached on first use is no part of the value
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


def test_equal_processes_share_a_compilation():
    traces = []

    def sigma(process, t):
        traces.append(process)
        return process.sigma(t)

    compiled = jax.jit(sigma, static_argnums=0)
    compiled(DDPM(7), jnp.array(3))
    compiled(DDPM(7), jnp.array(5))
    assert len(traces) == 1
    compiled(DDPM(8), jnp.array(3))
    assert len(traces) == 2


def test_explicit_levels_set_the_number_of_steps():
    assert DDPM(num_steps=99, betas=(0.1, 0.2)).num_steps == 2
    assert NCSN(num_steps=99, sigmas=SIGMAS).num_steps == 3


def test_falling_sigmas_as_in_the_papers_are_turned_round():
    np.testing.assert_allclose(NCSN(sigmas=SIGMAS[::-1]).sigma(np.arange(4)), [0, *SIGMAS], rtol=1e-7)


@pytest.mark.parametrize("process", [DDPM(97), NCSN(10)])
def test_timesteps_fall_strictly_from_the_last_level_to_zero(process):
    for n in range(1, process.num_steps + 1):
        times = process.timesteps(n)
        assert times.shape == (n + 1,)
        assert times[0] == process.num_steps
        assert times[-1] == 0
        assert np.all(np.diff(times) < 0)
        assert np.abs(times - np.linspace(process.num_steps, 0, n + 1)).max() <= 0.5
    np.testing.assert_array_equal(process.timesteps(process.num_steps), np.arange(process.num_steps, -1, -1))


@given(st.integers(1, 5000).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total))))
def test_timesteps_of_any_ladder(total_and_n):
    total, n = total_and_n
    times = DDPM(total, beta_start=1e-4, beta_end=1e-3).timesteps(n)
    assert len(times) == n + 1
    assert (times[0], times[-1]) == (total, 0)
    assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize("n", [0, -1, 11])
def test_more_steps_than_levels_and_fewer_than_one_are_refused(n):
    with pytest.raises(UserError, match="1 to 10"):
        NCSN(10).timesteps(n)


def test_an_unknown_spacing_is_refused():
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        NCSN().timesteps(5, "unifrom")


@pytest.mark.parametrize("process", [DDPM(10), NCSN(10)])
@pytest.mark.parametrize("t", [-1, 11, np.array([0, 11]), np.int64(-1)])
def test_a_known_t_outside_the_ladder_is_refused(process, t):
    with pytest.raises(IndexError, match="outside 0 … 10"):
        process.sigma(t)
    with pytest.raises(IndexError):
        process.transition(0, t)


@pytest.mark.parametrize("t", [1.0, np.array([0.5]), jnp.array([1.0])])
def test_a_float_t_is_refused(t):
    with pytest.raises(TypeError, match="integer t"):
        DDPM(10).sigma(t)
    with pytest.raises(TypeError, match="integer t"):
        DDPM(10).sigma(t)


def test_an_unknown_schedule_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="beta schedule 'cosin': did you mean 'cosine'"):
        DDPM(schedule="cosin")


@pytest.mark.parametrize("betas", [(0.0, 0.1), (0.1, 1.0), (-0.1, 0.1), (float("nan"),), ()])
def test_bad_betas_are_refused(betas):
    with pytest.raises(UserError):
        DDPM(betas=betas)


@pytest.mark.parametrize("settings", [{"num_steps": 0}, {"beta_start": 0.0}, {"beta_end": 1.0}, {"beta_end": -0.1}])
def test_bad_ddpm_settings_are_refused(settings):
    with pytest.raises(UserError):
        DDPM(**settings)


@pytest.mark.parametrize("sigmas", [(0.0, 0.1), (0.1, 0.1), (0.1, 0.3, 0.2), (-0.2, -0.1), (float("nan"),), ()])
def test_bad_sigmas_are_refused(sigmas):
    with pytest.raises(UserError):
        NCSN(sigmas=sigmas)


@pytest.mark.parametrize(
    "settings", [{"num_steps": 0}, {"sigma_min": 0.0}, {"sigma_min": 3.0}, {"sigma_min": -1.0}, {"sigma_max": 0.02}]
)
def test_bad_ncsn_settings_are_refused(settings):
    with pytest.raises(UserError):
        NCSN(**settings)


def test_an_unknown_reverse_variance_is_refused():
    with pytest.raises(UserError, match="did you mean 'large'"):
        DDPM(10).reverse_variance(1, 2, "larg")
