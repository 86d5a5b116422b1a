"""Branch weights: lambda, the weight of the branches, as a pure function of (step, total steps).

A branch weight has no state, so a checkpoint stores nothing of it and a resumed run continues with the same values.
Any callable ``(step, total) -> float`` works as one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from .. import components

BranchWeight = Callable[[int, int], float]
"""``(step, total steps) -> lambda``; steps count from 0, so lambda(total) is the value at the end of training."""


def _progress(step: int, total: int) -> float:
    """Return the fraction of training that is done, from 0 to 1."""
    if total < 1:
        raise ValueError(f"the branch weight needs at least 1 training step in total, got {total}")
    if step < 0:
        raise ValueError(f"training steps count from 0, got {step}")
    return min(step / total, 1.0)


def _check_lambda(name: str, value: float) -> None:
    if not (isinstance(value, Real) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: lambda must be finite and >= 0, got {value!r}")


@components.branch_weight("constant")
@dataclass(frozen=True)
class Constant:
    """The same lambda throughout: 1 is the paper's plain shortcut back-propagation, 0 is the baseline.

    Args:
        value: lambda.

    Example:
        >>> [Constant(0.5)(step, 100) for step in (0, 50, 100)]
        [0.5, 0.5, 0.5]
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        _check_lambda("value", self.value)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.value


@components.branch_weight("linear")
@dataclass(frozen=True)
class LinearDecay:
    """``lambda(i) = initial * (1 - i / I)``: the paper's evolutionary training, with initial 0.25.

    Args:
        initial: lambda at the start; it falls to 0.

    Example:
        >>> [LinearDecay()(step, 100) for step in (0, 50, 100)]
        [0.25, 0.125, 0.0]
    """

    initial: float = 0.25

    def __post_init__(self) -> None:
        _check_lambda("initial", self.initial)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial * (1.0 - _progress(step, total))


@components.branch_weight("cosine")
@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine from ``initial`` to 0: slower than linear at both ends (not in the paper).

    Args:
        initial: lambda at the start.

    Example:
        >>> [CosineDecay(0.5)(step, 100) for step in (0, 100)]
        [0.5, 0.0]
    """

    initial: float = 0.25

    def __post_init__(self) -> None:
        _check_lambda("initial", self.initial)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial * 0.5 * (1.0 + math.cos(math.pi * _progress(step, total)))
