"""Record spikes and gradients of every spiking layer through hooks."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..introspection import find_neurons, single_step_neurons, spiking_layers
from ..method import first_tensor
from ..module_state import hooked


def square_sum(grad: Tensor) -> Tensor:
    """Return the sum of squares in float64, where the squares of a vanished gradient do not underflow."""
    norm: Tensor = torch.linalg.vector_norm(grad, dtype=torch.float64)
    return norm.square()


class LayerTally:
    """Spikes and gradients of one layer in the recorded passes.

    It adds up tensors on their device, so that recording does not wait for a GPU. The properties wait.
    """

    def __init__(self) -> None:
        self.spikes: Tensor | float = 0.0
        self.elements = 0
        self.fired: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        """By shape of a sample: the neurons that ever fired, and those that always fired."""
        self.squares: Tensor | float = 0.0
        self.needs_gradient = False
        self.weight_name = ""
        """The last convolution or linear layer that ran before this layer."""

    @torch.no_grad()
    def add_spikes(self, spikes: Tensor, has_time: bool) -> None:
        """Add the spikes of one call, ``[T, N, ...]``, or ``[N, ...]`` of one time step."""
        self.spikes = self.spikes + spikes.sum(dtype=torch.float32).double()
        self.elements += spikes.numel()
        axes = (0, 1) if has_time else (0,)
        ever, always = spikes.amax(axes) > 0, spikes.amin(axes) > 0
        # A module that serves several layers may have outputs of several shapes.
        shape = tuple(ever.shape)
        ever_before, always_before = self.fired.get(shape, (ever, always))
        self.fired[shape] = ever_before | ever, always_before & always

    @torch.no_grad()
    def add_gradient(self, grad: Tensor) -> None:
        """Add the squares of a gradient."""
        self.squares = self.squares + square_sum(grad)

    @property
    def rate(self) -> float:
        """Spikes per neuron and time step."""
        return float(self.spikes) / max(self.elements, 1)

    @property
    def silent(self) -> float:
        """Share of neurons that never fired."""
        return 1.0 - _share([ever for ever, _ in self.fired.values()]) if self.fired else 0.0

    @property
    def saturated(self) -> float:
        """Share of neurons that fired at every time step for every sample."""
        return _share([always for _, always in self.fired.values()]) if self.fired else 0.0

    @property
    def norm(self) -> float:
        """Norm of the gradient over neurons, time steps and samples."""
        return math.sqrt(float(self.squares))


def _share(masks: list[Tensor]) -> float:
    return torch.cat([mask.flatten() for mask in masks]).float().mean().item()


@contextmanager
def probe(network: nn.Module, membrane: bool = True) -> Iterator[dict[str, LayerTally]]:
    """Record all spiking layers in the passes inside the block, in the order of their first calls.

    Args:
        network: the network that runs.
        membrane: record the gradient at the membrane potential, which is that at the input current. This prevents
            normalisation and neuron from running as one kernel. False records the gradient at the spikes, and the
            network runs just as it does without a probe.
    """
    tallies: dict[str, LayerTally] = {}
    single_step = single_step_neurons(network)
    last_weight = ""

    def before_weight(name: str, module: nn.Module, args: Any) -> None:
        nonlocal last_weight
        last_weight = name

    def before_neuron(name: str, module: nn.Module, args: Any) -> Any:
        tally = tallies.setdefault(name, LayerTally())
        tally.weight_name = last_weight
        current = args[0]
        if not (membrane and torch.is_grad_enabled() and current.requires_grad):
            return None
        tally.needs_gradient = True
        # A view that only this neuron reads. The gradient of a skip path through the same tensor is left out.
        alias = current.view_as(current)
        alias.register_hook(tally.add_gradient)
        return (alias, *args[1:])

    def after_neuron(name: str, module: nn.Module, args: Any, output: Any) -> None:
        spikes = first_tensor(output)
        tallies[name].add_spikes(spikes, has_time=name not in single_step)
        if not membrane and spikes.requires_grad:
            tallies[name].needs_gradient = True
            spikes.register_hook(tallies[name].add_gradient)  # type: ignore[no-untyped-call]

    layers = find_neurons(network) if membrane else spiking_layers(network) or find_neurons(network)
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    weighted = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, kinds)}
    with hooked(layers, after_neuron, before_neuron), hooked(weighted, pre=before_weight):
        yield tallies
