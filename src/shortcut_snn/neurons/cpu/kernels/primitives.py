"""The operations of a program in float32, one element at a time; inlined and without calls, so that loops vectorise."""

import math
import operator
from typing import Any

import numpy as np

from .build import loop
from .memory import power_of_two

f32 = np.float32
_ZERO, _ONE, _TWO = f32(0.0), f32(1.0), f32(2.0)
_LOWEST, _HIGHEST, _LOG2_E = f32(-87.0), f32(88.0), f32(1.4426950408889634)
# ln 2 in two parts: the first has few significant bits, so that its multiples are exact.
_LN2_HIGH, _LN2_LOW = f32(0.693359375), f32(-2.12194440e-4)
# Adding it rounds a float32 to an integer, which is then in the low bits.
_ROUND = f32(12582912.0)
# exp(r) = 1 + r + r^2 * polynomial (Cephes), |r| <= ln 2 / 2.
_P0, _P1, _P2 = f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3)
_P3, _P4, _P5 = f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1)


@loop
def where(condition: Any, a: Any, b: Any) -> Any:
    """Return a where the condition holds, else b."""
    return a if condition else b


@loop
def number(condition: Any) -> Any:
    """Return 1 for true and 0 for false."""
    return _ONE if condition else _ZERO


@loop
def maximum(a: Any, b: Any) -> Any:
    """Return the larger number; NaN if either is NaN."""
    return b if a < b or b != b else a


@loop
def minimum(a: Any, b: Any) -> Any:
    """Return the smaller number; NaN if either is NaN."""
    return b if a > b or b != b else a


@loop
def exp(x: Any) -> Any:
    """Return exp(x) to about 2 ulp."""
    within = minimum(maximum(x, _LOWEST), _HIGHEST)
    shifted = within * _LOG2_E + _ROUND
    whole = shifted - _ROUND
    r = within - whole * _LN2_HIGH - whole * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    out = (p * r * r + r + _ONE) * power_of_two(shifted)
    return out if x == x else x


@loop
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x))."""
    e = exp(-abs(x))
    return (_ONE if x >= _ZERO else e) / (_ONE + e)


@loop
def tanh(x: Any) -> Any:
    """Return tanh(x), with an absolute error below 1e-7."""
    e = exp(-_TWO * abs(x))
    t = (_ONE - e) / (_ONE + e)
    return t if x >= _ZERO else -t


@loop
def floor(x: Any) -> Any:
    """Return the largest integer that is not greater than x."""
    return f32(math.floor(x)) if abs(x) < _ROUND else x


@loop
def nearest(x: Any) -> Any:
    """Return the nearest integer, ties to even."""
    return f32((x + _ROUND) - _ROUND) if abs(x) < _TWO * _TWO * f32(1048576.0) else x


NAMES: dict[str, Any] = {
    "where": where, "number": number, "negation": operator.not_, "maximum": maximum, "minimum": minimum, "exp": exp,
    "sigmoid": sigmoid, "tanh": tanh, "log": math.log, "sqrt": math.sqrt, "floor": floor, "round": nearest, "f32": f32,
}  # fmt: skip
