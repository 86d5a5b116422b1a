"""Means and intervals against scipy and the definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shortcut_snn._utils.statistics import geometric_mean, mean_interval

values = st.lists(st.floats(-100, 100), min_size=2, max_size=20).filter(lambda v: np.std(v) > 1e-3)


@given(values)
def test_interval_is_scipys(sample):
    mean, half = mean_interval(sample)
    low, high = stats.t.interval(0.95, len(sample) - 1, np.mean(sample), stats.sem(sample))
    assert (mean - half, mean + half) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_one_value_has_no_interval():
    mean, half = mean_interval([3.0])
    assert mean == 3.0
    assert math.isnan(half)
    assert math.isnan(mean_interval([])[0])


@pytest.mark.parametrize("odd", [math.inf, math.nan])
def test_a_value_that_is_not_finite_leaves_no_interval(odd):
    mean, half = mean_interval([1.0, 2.0, odd])
    assert not math.isfinite(mean)
    assert math.isnan(half)


def test_geometric_mean():
    assert geometric_mean([1.0, 100.0]) == pytest.approx(10.0)
    assert math.isnan(geometric_mean([1.0, 0.0]))
    assert math.isnan(geometric_mean([]))
