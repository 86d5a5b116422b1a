"""Balance schedules: the weight lambda of the branches as a pure function of (step, total steps).

A schedule has no state, so there is nothing to checkpoint and nothing to forget on resume.
Any callable ``(step, total) -> float`` will do; those here are the usual ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

Balance = Callable[[int, int], float]
"""``(step, total steps) -> lambda``; step counts from 0, so lambda(total) is the end of training."""


def _progress(step: int, total: int) -> float:
    if total < 1:
        raise ValueError(f"a balance schedule needs at least 1 training step in total, got {total}")
    if step < 0:
        raise ValueError(f"the training step counts from 0, got {step}")
    return min(step / total, 1.0)


def _check_initial(initial: float) -> None:
    if not isinstance(initial, Real):
        raise TypeError(f"lambda must be a number, got {initial!r}")
    if not (math.isfinite(initial) and initial >= 0):
        raise ValueError(f"lambda must be finite and >= 0, got {initial}")


@dataclass(frozen=True)
class Constant:
    """The same lambda throughout: 1 is the paper's plain shortcut back-propagation, 0 is vanilla."""

    value: float = 1.0

    def __post_init__(self) -> None:
        _check_initial(self.value)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.value


@dataclass(frozen=True)
class LinearDecay:
    """``lambda(i) = initial * (1 - i / I)``: the paper's evolutionary training, initial 0.25."""

    initial: float = 0.25

    def __post_init__(self) -> None:
        _check_initial(self.initial)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial * (1.0 - _progress(step, total))


@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine from ``initial`` to 0: slower than linear at both ends (ours)."""

    initial: float = 0.25

    def __post_init__(self) -> None:
        _check_initial(self.initial)

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial * 0.5 * (1.0 + math.cos(math.pi * _progress(step, total)))


@dataclass(frozen=True)
class StepDecay:
    """``initial`` until the fraction ``until`` of training, then 0 (ours)."""

    initial: float = 0.25
    until: float = 0.5

    def __post_init__(self) -> None:
        _check_initial(self.initial)
        if not (isinstance(self.until, Real) and 0.0 <= self.until <= 1.0):
            raise ValueError(f"StepDecay's `until` is a fraction of training from 0 to 1, got {self.until}")

    def __call__(self, step: int, total: int) -> float:
        """Return lambda at a step."""
        return self.initial if _progress(step, total) < self.until else 0.0
