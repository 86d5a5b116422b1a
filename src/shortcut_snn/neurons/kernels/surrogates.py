"""Which surrogates the kernels know: a code and two numbers for each."""

import math
from collections.abc import Callable
from typing import Any

from ..surrogate import ATan, Rectangle, Sigmoid, Surrogate, Tanh, Triangle

# What the kernels compute from v, first and second:
RECTANGLE = 0  # second where |v| < first, else 0
TRIANGLE = 1  # first * max(0, 1 - |v| * second)
ATAN = 2  # first / (1 + (second * v)^2)
LOGISTIC = 3  # first * e / (1 + e)^2 with e = exp(-|second * v|)

KernelSurrogate = tuple[int, float, float]

_KNOWN: dict[type, Callable[[Any], KernelSurrogate]] = {
    Rectangle: lambda s: (RECTANGLE, s.width / 2, 1.0 / s.width),
    Triangle: lambda s: (TRIANGLE, s.gamma, 1.0 / s.width),
    # 1 - tanh(v)^2 = 4 sigmoid(2 v) (1 - sigmoid(2 v)).
    Tanh: lambda s: (LOGISTIC, 4.0 * s.scale, 2.0),
    ATan: lambda s: (ATAN, s.alpha / 2, math.pi / 2 * s.alpha),
    Sigmoid: lambda s: (LOGISTIC, s.alpha, s.alpha),
}


def kernel_surrogate(surrogate: Surrogate) -> KernelSurrogate | None:
    """Return the code and the two numbers of a surrogate, or None where the kernels do not know it."""
    known = _KNOWN.get(type(surrogate))
    return None if known is None else known(surrogate)
