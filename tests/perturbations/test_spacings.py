"""Step spacings against their formulas, on chains and in continuous time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_diffusion import UserError
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP
from unified_diffusion.perturbations.spacings import SPACINGS

CHAINS = [DDPM(), DDPM(200, "cosine"), DDPM(betas=(0.3, 0.01, 0.5, 0.001, 0.9)), NCSN(), NCSN(232, 0.02, 100.0)]
CONTINUOUS = [VP(), SubVP(), VE(), Cosine(), VP(40, 9.0, 0.5, t_min=0.02), CHAINS[2].continuous]
spacings = pytest.mark.parametrize("spacing", SPACINGS)


@spacings
@pytest.mark.parametrize("process", CHAINS)
def test_a_chain_visits_its_levels_each_once(process, spacing):
    for steps in {1, 2, min(9, process.num_steps), process.num_steps - 1, process.num_steps}:
        times = process.timesteps(steps, spacing)
        assert times.shape == (steps + 1,)
        assert times.dtype == np.int32
        assert (times[0], times[-1]) == (process.num_steps, 0)
        assert np.all(np.diff(times) < 0)


@spacings
@given(st.sampled_from(CONTINUOUS), st.integers(1, 3000))
def test_continuous_times_fall_to_zero_by_way_of_no_level_below_the_first(spacing, process, steps):
    times = process.timesteps(steps, spacing)
    assert times.shape == (steps + 1,)
    assert times.dtype == np.float64
    assert (times[0], times[-1]) == (1, 0)
    assert np.all(np.diff(times) < 0)
    assert steps == 1 or times[-2] >= process.t_min
    assert np.all(np.diff(times.astype(np.float32)) < 0)  # as a sampler's steps are given them


@pytest.mark.parametrize("process", [*CHAINS, *CONTINUOUS])
def test_uniform_and_trailing_are_even_in_t(process):
    for spacing in ("uniform", "trailing"):
        times, last = process.timesteps(5, spacing), process.times[-1]
        even = np.append(process.times[::-1], 0) if process.num_steps == 5 else last * np.arange(5, -1, -1) / 5
        np.testing.assert_allclose(times, even, atol=0.5 if last > 1 else 1e-12)


@pytest.mark.parametrize("process", [*CHAINS, *CONTINUOUS, NCSN().continuous])
def test_as_many_uniform_steps_as_levels_visit_the_levels(process):
    np.testing.assert_allclose(process.timesteps(process.num_steps), [*process.times[::-1], 0], rtol=1e-12)


@pytest.mark.parametrize("process", [DDPM(), VP(), Cosine()])
def test_quadratic_is_even_in_the_root_of_t(process):
    times, last = process.timesteps(8, "quadratic"), process.times[-1]
    np.testing.assert_allclose(times, last * (np.arange(8, -1, -1) / 8) ** 2, atol=0.5 if last > 1 else 1e-12)


@pytest.mark.parametrize("process", [*CONTINUOUS, DDPM(), NCSN(232, 0.02, 100.0)])
def test_log_snr_and_karras_are_even_in_theirs(process):
    steps, chain = 12, isinstance(process, (DDPM, NCSN))
    ends = process.exact(process.times[[-1, 0]]).log_snr
    log_snr = ends[0] + (ends[1] - ends[0]) * np.arange(steps) / (steps - 1)
    # Karras et al. 2022, eq. 5, of their sigma, which is sigma / alpha here.
    low, high = np.exp(-ends[1] / 2), np.exp(-ends[0] / 2)
    edm = (high ** (1 / 7) + np.arange(steps) / (steps - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    for spacing, expected in (("log_snr", log_snr), ("karras", -2 * np.log(edm))):
        times = process.timesteps(steps, spacing)[:-1]
        found = process.exact(times).log_snr
        if chain:  # the nearest levels
            assert np.all(np.abs(times - process.time_of(expected)) <= 0.5 + 1e-9)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


def test_a_geometric_ladder_is_even_in_log_snr():
    np.testing.assert_array_equal(NCSN(31).timesteps(11, "log_snr"), [*range(31, 0, -3), 0])


@pytest.mark.parametrize("process", [VP(), NCSN()])
def test_no_steps_and_unknown_spacings_are_refused(process):
    for steps in (0, -1):
        with pytest.raises(UserError, match=f"num_steps = {steps} sampling steps"):
            process.timesteps(steps)
    with pytest.raises(UserError, match="did you mean 'karras'"):
        process.timesteps(3, "karas")
