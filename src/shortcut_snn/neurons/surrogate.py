"""Surrogate gradients: what the backward pass uses for ds/du, as small value objects.

Each is a function of ``v = u_pre - V_th``, the distance of the membrane potential from the threshold.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Surrogate(Protocol):
    """The derivative ds/du as a function of the distance from the threshold, element by element."""

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du, of the shape and dtype of ``v``."""
        ...


def _positive(name: str, value: float) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"a surrogate's {name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"a surrogate's {name} must be finite and > 0, got {value}")


@dataclass(frozen=True)
class Rectangle:
    """``1 / width`` where ``|v| < width / 2``, else 0 (paper; its ``a``)."""

    width: float = 1.0

    def __post_init__(self) -> None:
        _positive("width", self.width)

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (v.abs() < self.width / 2).to(v.dtype) * (1.0 / self.width)


@dataclass(frozen=True)
class Triangle:
    """``gamma * max(0, 1 - |v| / width)`` (paper, where width is V_th = 1)."""

    gamma: float = 1.0
    width: float = 1.0

    def __post_init__(self) -> None:
        _positive("gamma", self.gamma)
        _positive("width", self.width)

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (1.0 - v.abs() * (1.0 / self.width)).clamp_min(0.0) * self.gamma


@dataclass(frozen=True)
class Tanh:
    """``scale * (1 - tanh(v)^2)`` (paper; its ``k``)."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _positive("scale", self.scale)

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (1.0 - torch.tanh(v).square()) * self.scale


@dataclass(frozen=True)
class ATan:
    """``alpha / 2 / (1 + (pi / 2 * alpha * v)^2)``: SpikingJelly's default for deep networks."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive("alpha", self.alpha)

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (self.alpha / 2) / (1.0 + (math.pi / 2 * self.alpha * v).square())


@dataclass(frozen=True)
class Sigmoid:
    """``alpha * sigmoid(alpha v) * (1 - sigmoid(alpha v))``."""

    alpha: float = 4.0

    def __post_init__(self) -> None:
        _positive("alpha", self.alpha)

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        s = torch.sigmoid(self.alpha * v)
        return self.alpha * s * (1.0 - s)
