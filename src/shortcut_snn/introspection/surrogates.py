"""Scale a neuron's surrogate gradient, or make it flat, whichever library the neuron comes from."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..neurons import Neuron, Rectangle, straight_through
from ..neurons.surrogate import Scaled

# Where libraries keep the function from the distance to the threshold to a spike.
_FUNCTIONS = ("surrogate_function", "spike_grad")


def set_surrogate(neuron: nn.Module, factor: float, width: float | None = None) -> bool:
    """Multiply the surrogate that a neuron was built with by a factor. A second call replaces the first one's factor.

    Args:
        neuron: built-in, or of SpikingJelly or snnTorch.
        factor: on the derivative.
        width: replace the surrogate by a rectangle of this width and of area 1 first.
    """
    if isinstance(neuron, Neuron):
        surrogate: Any = neuron.surrogate
        own = surrogate.surrogate if isinstance(surrogate, Scaled) else surrogate
        neuron.surrogate = Scaled(own if width is None else Rectangle(width), factor)
        return True
    for name in _FUNCTIONS:
        function: Any = getattr(neuron, name, None)
        if callable(function):
            setattr(neuron, name, ScaledSpike(getattr(function, "function", function), factor, width))
            return True
    return False


class ScaledSpike(nn.Module):
    """A library's spike function, with a scaled or a flat derivative.

    Args:
        function: maps the distance from the threshold to a spike.
        factor: on its derivative.
        width: of the rectangle that replaces the derivative; None keeps it.

    Example:
        >>> import torch
        >>> v = torch.tensor([-0.5, 0.5], requires_grad=True)
        >>> ScaledSpike(lambda v: (v > 0).float(), 3.0, 2.0)(v).sum().backward()
        >>> v.grad
        tensor([1.5000, 1.5000])
    """

    def __init__(self, function: Callable[[Tensor], Tensor], factor: float, width: float | None = None) -> None:
        super().__init__()
        self.function, self.factor, self.width = function, factor, width

    def forward(self, v: Tensor) -> Tensor:
        """Return spikes."""
        spikes = self.function(v)
        if self.width is not None:
            return straight_through(spikes, v, Scaled(Rectangle(self.width), self.factor))
        return spikes + (self.factor - 1) * (spikes - spikes.detach())
