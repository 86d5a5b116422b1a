"""Surrogate gradients as scalar functions of v = u_pre - V_th and two numbers."""

from typing import Any

import numpy as np

from ..surrogates import ATAN, RECTANGLE, TRIANGLE
from .build import loop
from .memory import PRE, SLOPE, bits_of, load, shift_to_float, store

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_LOWEST, _LOG2_E = np.float32(-87.0), np.float32(1.4426950408889634)
# ln 2 in two parts: the first has few digits, so that its multiples are exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Adding it rounds a float32 to an integer, which then stands in the low bits.
_ROUND = np.float32(12582912.0)
_BIAS = np.int32(127)
# exp(r) = 1 + r + r^2 * polynomial (Cephes), |r| <= ln 2 / 2.
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@loop
def exp_of_negative(x: Any) -> Any:
    """Return exp(x) for x <= 0 in float32, to about 2 units in the last place; without calls, so it vectorises."""
    x = max(x, _LOWEST)
    shifted = x * _LOG2_E + _ROUND
    whole = shifted - _ROUND
    r = x - whole * _LN2_HIGH - whole * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    return (p * r * r + r + _ONE) * shift_to_float(np.int32(bits_of(shifted) + _BIAS))


@loop
def _rectangle(v: Any, first: float, second: float) -> Any:
    return second if abs(v) < first else _ZERO


@loop
def _triangle(v: Any, first: float, second: float) -> Any:
    return max(_ONE - abs(v) * second, _ZERO) * first


@loop
def _atan(v: Any, first: float, second: float) -> Any:
    x = second * v
    return first / (_ONE + x * x)


@loop
def _logistic(v: Any, first: float, second: float) -> Any:
    e = exp_of_negative(-abs(second * v))
    return first * e / ((_ONE + e) * (_ONE + e))


def _make_slope(function: Any) -> Any:
    @loop
    def slope(pre: Any, slopes: Any, threshold: float, first: float, second: float, n: int) -> None:
        for j in range(n):
            store(slopes, j, function(load(pre, j, PRE) - threshold, first, second), SLOPE)

    return slope


_of_rectangle, _of_triangle = _make_slope(_rectangle), _make_slope(_triangle)
_of_atan, _of_logistic = _make_slope(_atan), _make_slope(_logistic)


@loop
def slope(surrogate: int, pre: Any, slopes: Any, threshold: float, first: float, second: float, n: int) -> None:
    """Write ds/du of a tile whose u_pre is given."""
    if surrogate == RECTANGLE:
        _of_rectangle(pre, slopes, threshold, first, second, n)
    elif surrogate == TRIANGLE:
        _of_triangle(pre, slopes, threshold, first, second, n)
    elif surrogate == ATAN:
        _of_atan(pre, slopes, threshold, first, second, n)
    else:
        _of_logistic(pre, slopes, threshold, first, second, n)
