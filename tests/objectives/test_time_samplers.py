"""Time samplers: which levels are drawn."""

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from unified_diffusion.objectives import TIME_SAMPLERS
from unified_diffusion.perturbations import DDPM, NCSN


@pytest.mark.parametrize("process", [DDPM(1), DDPM(37), NCSN(10)])
def test_uniform_covers_one_to_the_last_level_evenly_and_never_zero(process):
    t = np.asarray(TIME_SAMPLERS["uniform"](process, jax.random.key(0), 100_000))
    counts = np.bincount(t, minlength=process.num_steps + 1)
    assert counts[0] == 0
    assert len(counts) == process.num_steps + 1
    if process.num_steps > 1:
        assert chisquare(counts[1:]).pvalue > 1e-3
        # independent from one example to the next
        assert abs(np.corrcoef(t[:-1], t[1:])[0, 1]) < 4 / np.sqrt(len(t))
