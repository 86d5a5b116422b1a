"""Gradient mechanisms: how gradients pass through time.

A mechanism is a callable ``(network, taps, **options) -> Shortcut`` that wraps a network for training. Its attributes
``every_step`` and ``initialises`` say what it can be combined with; both count as True if they are missing.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from .. import components
from ..method import Objective, Shortcut, ShortcutOutput, takes_every_step
from ..neurons import Neuron, RatePasses

Taps = str | Sequence[str]


class Gradient(Protocol):
    """A gradient mechanism."""

    def __call__(self, network: nn.Module, taps: Taps, /, **options: Any) -> Shortcut:
        """Wrap a network; the arguments are those of :class:`~shortcut_snn.Shortcut`."""


@components.gradient("bptt")
def bptt(network: nn.Module, taps: Taps, **options: Any) -> Shortcut:
    """Back-propagation through time: the network's own gradient."""
    return Shortcut(network, taps, **options)


@components.gradient("sltt")
def sltt(network: nn.Module, taps: Taps, **options: Any) -> Shortcut:
    """Spatial learning through time: no gradient passes from a time step to the previous one.

    Source: Meng et al., Towards memory- and time-efficient back-propagation for training SNNs, ICCV 2023.
    """
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    if not neurons:
        raise ValueError(
            f"gradient sltt needs neurons of shortcut_snn, and {type(network).__name__} has none; use bptt"
        )
    for neuron in neurons:
        neuron.detach_membrane = True
    return Shortcut(network, taps, **options)


def check_gradient(gradient: Gradient, objective: Objective, initialise: bool = False) -> None:
    """Raise an error for a combination that is not supported."""
    component = components.component_of(gradient)
    if takes_every_step(objective) and not getattr(component.factory, "every_step", True):
        needs = components.component_of(objective).name
        raise ValueError(
            f"gradient {component.name} has no logits of single time steps, which {needs} needs; use bptt or sltt"
        )
    if initialise and not initialises(gradient):
        raise ValueError(
            f"initialise needs gradients through time, which gradient {component.name} does not have; set it to false, "
            "or use bptt or sltt"
        )


def initialises(gradient: Gradient) -> bool:
    """Return whether gradients pass through the surrogates, so that these can be set by measurement."""
    return bool(getattr(components.component_of(gradient).factory, "initialises", True))


@components.gradient("rate")
class RateShortcut(Shortcut):
    """Rate-based back-propagation: trains a network with gradients through its firing rates, with or without branches.

    In training mode a call runs the network twice: once with spikes, and once on the input averaged over time, whose
    output is returned. With the readout ``"mean"`` both outputs are equal up to rounding. In eval mode, and without
    gradients, it is a plain :class:`~shortcut_snn.Shortcut`.

    Args:
        network: with built-in neurons.
        taps: see :class:`~shortcut_snn.Shortcut`; branches read the averages too.
        options: the other arguments of :class:`~shortcut_snn.Shortcut`.

    Raises:
        ValueError: the network has neurons whose tau is learned.

    Example:
        >>> from shortcut_snn import nets
        >>> model = RateShortcut(nets.spiking_resnet8(10, 2, width=4), [], num_classes=10)
        >>> model(torch.rand(2, 3, 8, 8)).main.shape
        torch.Size([2, 10])
    """

    every_step: ClassVar[bool] = False
    """Whether objectives can use the logits of every time step."""
    initialises: ClassVar[bool] = False
    """Whether gradients pass through the surrogates, so that these can be set by measurement."""

    def __init__(self, network: nn.Module, taps: Taps = "stages", **options: Any) -> None:
        super().__init__(network, taps, **options)
        self._passes = RatePasses(network)

    def forward(self, x: Tensor) -> ShortcutOutput:
        """Return the output for images ``[N, C, H, W]`` or frames ``[T, N, C, H, W]``."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        built_in_axis = None if x.dim() == 4 else 0
        axis = built_in_axis if self.layout is None else self.layout.time_axis
        with self._passes.spiking():
            self.network(x)
        with self._passes.averages():
            return super().forward(x if axis is None else x.mean(axis, keepdim=True))
