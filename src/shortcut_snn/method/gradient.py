"""Gradient mechanisms: how gradients pass through time.

A mechanism maps a network and its layout to the layout of the network in training.
"""

from collections.abc import Callable

from torch import nn

from .. import components
from ..neurons import Neuron
from .layout import Layout

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
