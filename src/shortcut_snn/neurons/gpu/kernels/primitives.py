"""The operations of a program, elementwise in float32."""

from typing import Any

import triton
import triton.language as tl


@triton.jit
def number(condition):
    """Return 1 for true and 0 for false."""
    return condition.to(tl.float32)


@triton.jit
def negation(condition):
    """Return the logical negation."""
    return condition == 0


@triton.jit
def maximum(a, b):
    """Return the larger number; NaN if the first is NaN."""
    return tl.where(a < b, b, a)


@triton.jit
def minimum(a, b):
    """Return the smaller number; NaN if the first is NaN."""
    return tl.where(a > b, b, a)


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x):
    """Return tanh(x)."""
    e = tl.exp(-2.0 * tl.abs(x))
    t = (1.0 - e) / (1.0 + e)
    return tl.where(x >= 0.0, t, -t)


@triton.jit
def nearest(x):
    """Return the nearest integer, ties to even."""
    # The sum has no fractional bits.
    rounded = (x + 12582912.0) - 12582912.0
    return tl.where(tl.abs(x) < 4194304.0, rounded, x)


NAMES: dict[str, Any] = {
    "number": number, "negation": negation, "maximum": maximum, "minimum": minimum, "sigmoid": sigmoid, "tanh": tanh,
    "round": nearest,
}  # fmt: skip
FUNCTIONS = {op: f"tl.{op}" for op in ("where", "abs", "exp", "log", "sqrt", "floor")}
"""The operations that Triton has."""
