"""Means with intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy import stats


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean and half the width of its confidence interval (Student's t; NaN for fewer than 2 values)."""
    if not values:
        return math.nan, math.nan
    if len(values) < 2:
        return fmean(values), math.nan
    quantile = float(stats.t.ppf(0.5 + level / 2, len(values) - 1))
    return fmean(values), quantile * stdev(values) / math.sqrt(len(values))


def with_interval(mean: float, half: float, digits: int = 2, sign: str = "") -> str:
    """Return what :func:`mean_interval` gives as text, without the interval where there is none."""
    spread = "" if math.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{spread}"


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values (NaN where one is not)."""
    if not values or any(not (value > 0 and math.isfinite(value)) for value in values):
        return math.nan
    return math.exp(fmean(map(math.log, values)))
