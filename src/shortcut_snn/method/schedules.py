"""Lambda schedules: the weight of the branches as a pure function of (step, total steps).

A schedule has no state, so there is nothing to checkpoint and nothing to forget on resume.
Any callable ``(step, total) -> float`` will do; those here are the usual ones.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Protocol

from .. import components


class Balance(Protocol):
    """``(step, total steps) -> lambda``; step counts from 0, so lambda(total) is the end of training.

    Example:
        >>> schedule: Balance = lambda step, total: 0.5 if 2 * step < total else 0.0
        >>> schedule(0, 100), schedule(50, 100)
        (0.5, 0.0)
    """

    def __call__(self, step: int, total: int, /) -> float:
        """Return lambda at a step."""


def _progress(step: int, total: int) -> float:
    if total < 1:
        raise ValueError(f"a lambda schedule needs at least 1 training step in total, got {total}")
    if step < 0:
        raise ValueError(f"the training step counts from 0, got {step}")
    return min(step / total, 1.0)


def _check(name: str, weight: float) -> None:
    if not (isinstance(weight, Real) and math.isfinite(weight) and weight >= 0):
        raise ValueError(f"{name}: lambda must be finite and >= 0, got {weight!r}")


@components.schedule("constant")
@dataclass(frozen=True)
class Constant:
    """The same lambda throughout: 1 is the paper's plain shortcut back-propagation, 0 is vanilla.

    Args:
        value: lambda.

    Example:
        >>> [Constant(0.5)(step, 100) for step in (0, 50, 100)]
        [0.5, 0.5, 0.5]
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        _check("value", self.value)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.value


@components.schedule("linear")
@dataclass(frozen=True)
class LinearDecay:
    """``lambda(i) = initial * (1 - i / I)``: the paper's evolutionary training, initial 0.25.

    Args:
        initial: lambda at the start; it falls to 0.

    Example:
        >>> [LinearDecay()(step, 100) for step in (0, 50, 100)]
        [0.25, 0.125, 0.0]
    """

    initial: float = 0.25

    def __post_init__(self) -> None:
        _check("initial", self.initial)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial * (1.0 - _progress(step, total))


@components.schedule("cosine")
@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine from ``initial`` to 0: slower than linear at both ends (ours).

    Args:
        initial: lambda at the start.

    Example:
        >>> [CosineDecay(0.5)(step, 100) for step in (0, 100)]
        [0.5, 0.0]
    """

    initial: float = 0.25

    def __post_init__(self) -> None:
        _check("initial", self.initial)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial * 0.5 * (1.0 + math.cos(math.pi * _progress(step, total)))


@components.schedule("step")
@dataclass(frozen=True)
class StepDecay:
    """``initial`` until the fraction ``until`` of training, then 0 (ours).

    Args:
        initial: lambda at the start.
        until: the fraction of training that has it, from 0 to 1.

    Example:
        >>> [StepDecay(0.25, until=0.5)(step, 100) for step in (0, 49, 50)]
        [0.25, 0.25, 0.0]
    """

    initial: float = 0.25
    until: float = 0.5

    def __post_init__(self) -> None:
        _check("initial", self.initial)
        if not (isinstance(self.until, Real) and 0.0 <= self.until <= 1.0):
            raise ValueError(f"until is a fraction of training from 0 to 1, got {self.until!r}")

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial if _progress(step, total) < self.until else 0.0


components.schedule.type = Balance
