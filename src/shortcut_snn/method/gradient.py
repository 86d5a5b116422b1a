"""Gradient mechanisms: how gradients pass through time.

A mechanism maps a network and its layout to the layout of the network in training. Its attributes ``every_step`` and
``initialises`` say what it can be combined with; both count as True if they are missing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from .. import components
from .._utils.calls import primary
from ..neurons import Neuron
from ..neurons.rate import RatePasses
from .layout import Layout
from .objectives import Objective, definition, part_name, takes_every_step

Gradient = Callable[[nn.Module, Layout], Layout]
"""Prepares a network for training, and returns the layout with which it trains."""


@components.gradient("bptt")
def bptt(network: nn.Module, layout: Layout) -> Layout:
    """Back-propagation through time: the network's own gradient."""
    return layout


@components.gradient("sltt")
def sltt(network: nn.Module, layout: Layout) -> Layout:
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
    return layout


@components.gradient("rate")
def rate(network: nn.Module, layout: Layout) -> Layout:
    """Rate-based back-propagation: gradients pass through the firing rates of one step.

    Source: Yu et al., Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based Backpropagation,
    NeurIPS 2024.
    """
    return replace(layout, run=RateCall(RatePasses(network), layout))


rate.every_step = rate.initialises = False  # type: ignore[attr-defined]


@dataclass(frozen=True)
class RateCall:
    """Calls a network twice in training: with spikes, then on the input averaged over time, whose output it returns.

    With the readout ``"mean"`` both outputs are equal up to rounding. In eval mode, and without gradients, it calls the
    network once.

    Args:
        passes: the two passes through the network.
        layout: of the network.
    """

    passes: RatePasses
    layout: Layout = field(repr=False)

    def __call__(self, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the network's output."""
        if not (network.training and torch.is_grad_enabled()):
            return self.layout.call(network, *args, **kwargs)
        x, *rest = args
        axis = self.layout.time_axis
        if self.layout.batch_axis is None:
            # A built-in network takes images, or frames with the axis of time first.
            axis = None if primary(x).dim() == 4 else 0
        with self.passes.spiking():
            self.layout.call(network, x, *rest, **kwargs)
        with self.passes.averages():
            return self.layout.call(network, x if axis is None else x.mean(axis, keepdim=True), *rest, **kwargs)


def check_gradient(gradient: Gradient, objective: Objective, initialise: bool = False) -> None:
    """Raise an error for a combination that is not supported.

    Raises:
        ValueError: the message names the combination.
    """
    if takes_every_step(objective) and not getattr(definition(gradient), "every_step", True):
        raise ValueError(
            f"gradient {part_name(gradient)} has no logits of single time steps, which {part_name(objective)} needs; "
            "use bptt or sltt"
        )
    if initialise and not initialises(gradient):
        raise ValueError(
            f"initialise needs gradients through time, which gradient {part_name(gradient)} does not have; set it to "
            "false, or use bptt or sltt"
        )


def initialises(gradient: Gradient) -> bool:
    """Return whether gradients pass through the surrogates, so that these can be set by measurement."""
    return bool(getattr(definition(gradient), "initialises", True))
