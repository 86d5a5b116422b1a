"""Surrogate gradients: what the backward pass uses for ds/du, as small value objects.

Each is a function of ``v = u_pre - V_th``, the distance of the membrane potential from the threshold.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import components


@runtime_checkable
class Surrogate(Protocol):
    """The derivative ds/du as a function of the distance from the threshold, element by element."""

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du, of the shape and dtype of ``v``."""
        ...


components.surrogate.type = Surrogate


@runtime_checkable
class Resizable(Protocol):
    """A surrogate that knows how it looks at another width."""

    def resized(self, width: float) -> Surrogate:
        """Return the same shape, ``width`` wide and of its usual height at that width."""
        ...


@dataclass(frozen=True)
class _Shape:
    """A surrogate whose numbers are all positive."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Real):
                raise TypeError(f"a surrogate's {name} must be a number, got {value!r}")
            if not 0 < float(value) < math.inf:
                raise ValueError(f"a surrogate's {name} must be finite and > 0, got {value}")


@components.surrogate("rectangle")
@dataclass(frozen=True)
class Rectangle(_Shape):
    """``1 / width`` where ``|v| < width / 2``, else 0 (paper; its ``a``).

    Args:
        width: where it is not 0; its area is 1.

    Example:
        >>> import torch
        >>> Rectangle(2.0)(torch.tensor([0.0, 0.9, 1.1]))
        tensor([0.5000, 0.5000, 0.0000])
    """

    width: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (v.abs() < self.width / 2).to(v.dtype) * (1.0 / self.width)

    def resized(self, width: float) -> "Rectangle":
        """Return the rectangle of that width; its area stays 1."""
        return Rectangle(width)


@components.surrogate("triangle")
@dataclass(frozen=True)
class Triangle(_Shape):
    """``gamma * max(0, 1 - |v| / width)`` (paper, where width is V_th = 1).

    Args:
        gamma: its height.
        width: half of its base.

    Example:
        >>> import torch
        >>> Triangle()(torch.tensor([0.0, 0.5, 1.1]))
        tensor([1.0000, 0.5000, 0.0000])
    """

    gamma: float = 1.0
    width: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (1.0 - v.abs() * (1.0 / self.width)).clamp_min(0.0) * self.gamma

    def resized(self, width: float) -> "Triangle":
        """Return the triangle of that half-base; its area is 1."""
        return Triangle(1.0 / width, width)


@components.surrogate("tanh")
@dataclass(frozen=True)
class Tanh(_Shape):
    """``scale * (1 - tanh(v)^2)`` (paper; its ``k``).

    Args:
        scale: its height.

    Example:
        >>> import torch
        >>> Tanh()(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.4200])
    """

    scale: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (1.0 - torch.tanh(v).square()) * self.scale

    def resized(self, width: float) -> "Tanh":
        """Return it 1 / width times as high: the shape has no width of its own."""
        return Tanh(1.0 / width)


@components.surrogate("atan")
@dataclass(frozen=True)
class ATan(_Shape):
    """``alpha / 2 / (1 + (pi / 2 * alpha * v)^2)``: SpikingJelly's default for deep networks.

    Args:
        alpha: twice its height; its area is 1.

    Example:
        >>> import torch
        >>> ATan()(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.0920])
    """

    alpha: float = 2.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (self.alpha / 2) / (1.0 + (math.pi / 2 * self.alpha * v).square())

    def resized(self, width: float) -> "ATan":
        """Return it 1 / width high; its area stays 1."""
        return ATan(2.0 / width)


@components.surrogate("sigmoid")
@dataclass(frozen=True)
class Sigmoid(_Shape):
    """``alpha * sigmoid(alpha v) * (1 - sigmoid(alpha v))``.

    Args:
        alpha: four times its height; its area is 1.

    Example:
        >>> import torch
        >>> Sigmoid()(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.0707])
    """

    alpha: float = 4.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        s = torch.sigmoid(self.alpha * v)
        return self.alpha * s * (1.0 - s)

    def resized(self, width: float) -> "Sigmoid":
        """Return it 1 / width high; its area stays 1."""
        return Sigmoid(4.0 / width)


@components.surrogate("normalised_tanh")
@dataclass(frozen=True)
class NormalisedTanh(_Shape):
    """``3 (1 - tanh(3 v)^2) / (2 tanh 1.5)`` where ``|v| <= 0.5``, else 0: that of the paper's authors in earlier code.

    Args:
        width: where it is not 0; at another than 1 it is as much wider as it is lower, and its area stays 1.

    Example:
        >>> import torch
        >>> NormalisedTanh()(torch.tensor([0.0, 0.5, 0.6]))
        tensor([1.6572, 0.2995, 0.0000])
    """

    width: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        height = 3.0 / (2.0 * math.tanh(1.5) * self.width)
        slope = (1.0 - torch.tanh(v * (3.0 / self.width)).square()) * height
        return slope.masked_fill(v.abs() > self.width / 2, 0.0)

    def resized(self, width: float) -> "NormalisedTanh":
        """Return it of that width; its area stays 1."""
        return NormalisedTanh(width)
