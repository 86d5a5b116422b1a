"""Surrogate gradients: derivatives of the spike that the backward pass uses, one small class each.

A surrogate is a function of ``v = u_pre - threshold``, the distance of the membrane potential from the threshold.
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
    """A surrogate derivative ds/du: an elementwise function of the distance from the threshold."""

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du in the shape and dtype of ``v``."""
        ...


@runtime_checkable
class Resizable(Protocol):
    """A surrogate that can be rescaled, as the diagnosis tries it."""

    def resized(self, width: float) -> Surrogate:
        """Return the surrogate of the same shape with this width, and its usual height at that width."""
        ...


@dataclass(frozen=True)
class _Shape:
    """Base class: a surrogate whose parameters are all positive numbers."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Real):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not 0 < float(value) < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {value}")


@dataclass(frozen=True)
class Scaled:
    """A surrogate times a factor, as :func:`shortcut_snn.initialise` sets it."""

    surrogate: Surrogate
    factor: float

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return self.surrogate(v) * self.factor


@components.surrogate("rectangle")
@dataclass(frozen=True)
class Rectangle(_Shape):
    """Rectangular surrogate, ``1 / width`` where ``|v| < width / 2``, else 0; the paper's default.

    Args:
        width: width of the rectangle (the paper's ``a``); its area is 1.

    Example:
        >>> Rectangle(2.0)(torch.tensor([0.0, 0.9, 1.1]))
        tensor([0.5000, 0.5000, 0.0000])
    """

    width: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (v.abs() < self.width / 2).to(v.dtype) * (1.0 / self.width)

    def resized(self, width: float) -> "Rectangle":
        """Return the rectangle of this width; its area stays 1."""
        return Rectangle(width)


@components.surrogate("triangle")
@dataclass(frozen=True)
class Triangle(_Shape):
    """Triangular surrogate, ``gamma * max(0, 1 - |v| / width)`` (the paper's, with a width of V_th = 1).

    Args:
        gamma: height.
        width: half of the base.

    Example:
        >>> Triangle()(torch.tensor([0.0, 0.5, 1.1]))
        tensor([1.0000, 0.5000, 0.0000])
    """

    gamma: float = 1.0
    width: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (1.0 - v.abs() * (1.0 / self.width)).clamp_min(0.0) * self.gamma

    def resized(self, width: float) -> "Triangle":
        """Return the triangle with this half-base; its area is 1."""
        return Triangle(1.0 / width, width)


@components.surrogate("tanh")
@dataclass(frozen=True)
class Tanh(_Shape):
    """Derivative of tanh, ``scale * (1 - tanh(v)^2)`` (from the paper).

    Args:
        scale: height (the paper's ``k``).

    Example:
        >>> Tanh()(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.4200])
    """

    scale: float = 1.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (1.0 - torch.tanh(v).square()) * self.scale

    def resized(self, width: float) -> "Tanh":
        """Return the surrogate with a height of 1 / width; the shape has no width parameter."""
        return Tanh(1.0 / width)


@components.surrogate("atan")
@dataclass(frozen=True)
class ATan(_Shape):
    """Derivative of the arc tangent, ``alpha / 2 / (1 + (pi / 2 * alpha * v)^2)`` (SpikingJelly's ``ATan``).

    Args:
        alpha: twice the height; the area is 1.

    Example:
        >>> ATan()(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.0920])
    """

    alpha: float = 2.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return (self.alpha / 2) / (1.0 + (math.pi / 2 * self.alpha * v).square())

    def resized(self, width: float) -> "ATan":
        """Return the surrogate with a height of 1 / width; its area stays 1."""
        return ATan(2.0 / width)


@components.surrogate("sigmoid")
@dataclass(frozen=True)
class Sigmoid(_Shape):
    """Derivative of the sigmoid, ``alpha * sigmoid(alpha v) * (1 - sigmoid(alpha v))``.

    Args:
        alpha: four times the height; the area is 1.

    Example:
        >>> Sigmoid()(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.0707])
    """

    alpha: float = 4.0

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        s = torch.sigmoid(self.alpha * v)
        return self.alpha * s * (1.0 - s)

    def resized(self, width: float) -> "Sigmoid":
        """Return the surrogate with a height of 1 / width; its area stays 1."""
        return Sigmoid(4.0 / width)


@components.surrogate("normalised_tanh")
@dataclass(frozen=True)
class NormalisedTanh(_Shape):
    """Truncated derivative of tanh, from earlier code of the paper's authors.

    At a width of 1 it is ``3 (1 - tanh(3 v)^2) / (2 tanh 1.5)`` where ``|v| <= 0.5``, else 0.

    Args:
        width: width of the interval where it is not 0; the area is 1 at any width.

    Example:
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
        """Return the surrogate of this width; its area stays 1."""
        return NormalisedTanh(width)
