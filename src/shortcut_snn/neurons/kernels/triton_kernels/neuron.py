"""The neuron's dynamics, element by element."""

import triton
import triton.language as tl

from .. import surrogates

RECTANGLE = tl.constexpr(surrogates.RECTANGLE)
TRIANGLE = tl.constexpr(surrogates.TRIANGLE)
ATAN = tl.constexpr(surrogates.ATAN)


@triton.jit
def reset(u_pre, fired, threshold, SOFT: tl.constexpr):
    """Return the membrane potential after a step."""
    return tl.where(fired, u_pre - threshold, u_pre) if SOFT else tl.where(fired, 0.0, u_pre)


@triton.jit
def slope(v, first, second, SURROGATE: tl.constexpr):
    """Return ds/du at a distance from the threshold; what the codes mean stands in :mod:`..surrogates`."""
    if SURROGATE == RECTANGLE:
        value = tl.where(tl.abs(v) < first, second, 0.0)
    elif SURROGATE == TRIANGLE:
        value = tl.maximum(1.0 - tl.abs(v) * second, 0.0) * first
    elif SURROGATE == ATAN:
        x = second * v
        value = first / (1.0 + x * x)
    else:
        e = tl.exp(-tl.abs(second * v))
        value = first * e / ((1.0 + e) * (1.0 + e))
    return value
