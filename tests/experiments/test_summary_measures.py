"""Means and spreads over seeds, and what is called best."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from experiments.sweep.measures import best, group_mean, show
from experiments.sweep.summary import Measurement


def measured(*values, width=None):
    """The estimate of these values, each with an interval of this half width."""
    return group_mean([Measurement(v, *(() if width is None else (v - width, v + width))) for v in values])


VALUES = st.lists(st.integers(-9, 9), min_size=2, max_size=5).filter(lambda values: len(set(values)) > 1)


@given(VALUES, VALUES)
def test_the_best_of_two_is_by_welchs_test(first, second):
    """As SciPy's two-sided test at 5 % has it."""
    pvalue = stats.ttest_ind(first, second, equal_var=False).pvalue
    assume(abs(pvalue - 0.05) > 1e-9)
    lower = 0 if np.mean(first) < np.mean(second) else 1
    assert best([measured(*first), measured(*second)], "lower") == (lower if pvalue < 0.05 else None)
    assert best([measured(*first), measured(*second)], "higher") == (1 - lower if pvalue < 0.05 else None)


def test_the_best_leads_every_other_one():
    clear, near, wide = measured(1.0, 1.1), measured(5.0, 5.1), measured(2.0, 9.0)
    assert best([near, clear], "lower") == 1
    assert best([near, clear], "higher") == 0
    assert best([near, clear, wide], "lower") is None
    assert best([near, None, clear], "lower") == 2
    assert best([near, clear], None) is None
    assert best([near], "lower") is None


def test_seeds_that_agree_by_chance_are_not_believed():
    """Two seeds on each side, within intervals that are wider than the difference."""
    assert best([measured(1.0, 1.0001), measured(1.2, 1.2001)], "lower") == 0
    assert best([measured(1.0, 1.0001, width=0.5), measured(1.2, 1.2001, width=0.5)], "lower") is None


def test_a_single_seed_is_judged_by_its_interval():
    """1.96 standard errors of the difference of two intervals of equal half width w are sqrt(2) w."""
    assert best([measured(1.0, width=0.1), measured(1.0 + 1.45 * 0.1, width=0.1)], "lower") == 0
    assert best([measured(1.0, width=0.1), measured(1.0 + 1.38 * 0.1, width=0.1)], "lower") is None
    assert best([measured(1.0), measured(9.0)], "lower") is None


def test_an_interval_that_is_cut_says_what_its_wider_side_says():
    """Recall of 0.99 ± 0.03 is [0.96, 1]; a share of exactly 1 has no width at all, and no standard error."""
    assert Measurement(0.99, 0.96, 1.0).error == pytest.approx(0.03 / 1.959964)
    assert Measurement(0.01, 0.0, 0.04).error == pytest.approx(0.03 / 1.959964)
    assert Measurement(1.0, 1.0, 1.0).error is None
    assert (
        best([group_mean([Measurement(1.0, 1.0, 1.0)]), group_mean([Measurement(0.5, 0.49, 0.51)])], "higher") is None
    )


def test_estimates():
    found = measured(1.0, 3.0)
    assert (found.mean, found.count, found.freedom) == (2.0, 2, 1)
    assert found.spread == pytest.approx(math.sqrt(2))
    assert found.variance == pytest.approx(1.0)
    alone = measured(1.0, width=0.2)
    assert alone.spread is None
    assert (alone.low, alone.high) == (0.8, 1.2)
    assert alone.variance == pytest.approx((0.2 / 1.959964) ** 2)
    assert group_mean([]) is None


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (12.345, 0.123, "12.35"),
        (12.345, 0.321, "12.3"),
        (0.019712, 0.00012, "0.01971"),
        (156.1, 3.4, "156"),
        (1234.5, 40.0, "1,230"),
        (-0.5, 0.1, "−0.50"),
        (4.5, None, "4.500"),
        (0.0, None, "0"),
        (3, None, "3"),
        (1.25e-9, None, "1.25e−09"),
        (math.nan, None, "–"),
        (None, None, "–"),
    ],
)
def test_numbers_are_as_long_as_their_spread_allows(value, spread, text):
    assert show(value, spread) == text
