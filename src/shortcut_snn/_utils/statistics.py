"""Means and their confidence intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % confidence interval by Student's t.

    The half width is NaN for fewer than 2 values, or if not all are finite.
    """
    from scipy import stats  # the package `train` installs it; a diagnosis does not need it

    if not values:
        return math.nan, math.nan
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return fmean(values), math.nan
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return fmean(values), quantile * stdev(values) / math.sqrt(len(values))


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of counts (Wilson, 1927)."""
    from scipy import stats

    if of < 1:
        return math.nan, math.nan
    low, high = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def with_interval(mean: float, half: float, digits: int | None = 2, sign: str = "") -> str:
    """Return a mean and its interval as text, or the mean alone if the interval is NaN.

    Args:
        digits: decimal places. None shows two significant digits of the interval.
        sign: ``"+"`` shows the sign of a positive mean.

    Example:
        >>> with_interval(91.234, 0.456)
        '91.23 ± 0.46'
        >>> with_interval(0.0123456, 0.00042, digits=None)
        '0.01235 ± 0.00042'
    """
    if digits is None:
        scale = half if half > 0 and math.isfinite(half) else abs(mean) / 100
        digits = max(0, 1 - math.floor(math.log10(scale))) if scale > 0 and math.isfinite(scale) else 2
    interval = "" if math.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{interval}"


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values; NaN if one is not positive and finite."""
    if not values or any(not (value > 0 and math.isfinite(value)) for value in values):
        return math.nan
    return math.exp(fmean(map(math.log, values)))
