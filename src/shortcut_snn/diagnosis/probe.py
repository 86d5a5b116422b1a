"""Spikes and gradients of every spiking layer, watched through hooks while a network runs as ever."""

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
    """Return the sum of squares in float64: those of a vanished gradient are 0 in float32."""
    norm: Tensor = torch.linalg.vector_norm(grad, dtype=torch.float64)
    return norm.square()


class Tally:
    """What one layer did in the passes that were watched; sums, so that nothing waits for a device in between."""

    def __init__(self) -> None:
        self.spikes: Tensor | float = 0.0
        self.samples = self.elements = self.steps = 0
        self.seen: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self.squares: Tensor | float = 0.0
        self.needs_gradient = False
        self.weight = ""

    @torch.no_grad()
    def count(self, spikes: Tensor, over_time: bool) -> None:
        """Take in the spikes of one call, ``[T, N, ...]`` or, of one time step, ``[N, ...]``."""
        self.spikes = self.spikes + spikes.sum(dtype=torch.float32).double()
        self.elements += spikes.numel()
        # Neurons that fired for some sample at some step, and those that did for every one at every step.
        axes = (0, 1) if over_time else (0,)
        some, every = spikes.amax(axes) > 0, spikes.amin(axes) > 0
        # One module may serve layers of different widths.
        shape = tuple(some.shape)
        fired, always = self.seen.get(shape, (some, every))
        self.seen[shape] = fired | some, always & every

    @torch.no_grad()
    def gradient(self, grad: Tensor) -> None:
        """Take in a gradient."""
        self.squares = self.squares + square_sum(grad)

    @property
    def rate(self) -> float:
        """Spikes per neuron and time step."""
        return float(self.spikes) / max(self.elements, 1)

    @property
    def silent(self) -> float:
        """Share of neurons that never fired."""
        return 1.0 - _share([fired for fired, _ in self.seen.values()]) if self.seen else 0.0

    @property
    def saturated(self) -> float:
        """Share of neurons that fired at every time step for every sample."""
        return _share([always for _, always in self.seen.values()]) if self.seen else 0.0

    @property
    def norm(self) -> float:
        """Norm of the gradient: root of the sum of its squares over neurons, time steps and samples."""
        return math.sqrt(float(self.squares))


def _share(marks: list[Tensor]) -> float:
    """How many of all marks are set."""
    return torch.cat([each.flatten() for each in marks]).float().mean().item()


@contextmanager
def probe(network: nn.Module, membrane: bool = True) -> Iterator[dict[str, Tally]]:
    """Watch all neurons in the passes of a block; layers appear in the order in which they are first called.

    Args:
        network: what runs.
        membrane: take the gradient at the membrane potential, which is that of the neuron's input current. This
            keeps normalisation and neuron from running as one. With False it is taken at the spikes, and the
            network runs just as it would unwatched.
    """
    tallies: dict[str, Tally] = {}
    by_steps = single_step_neurons(network)
    last_weight = ""

    def note_weight(name: str, module: nn.Module, args: Any) -> None:
        nonlocal last_weight
        last_weight = name

    def before(name: str, module: nn.Module, args: Any) -> Any:
        tally = tallies.setdefault(name, Tally())
        tally.weight = last_weight
        current = args[0]
        if not (membrane and torch.is_grad_enabled() and current.requires_grad):
            return None
        tally.needs_gradient = True
        # A view for this neuron alone: the gradient of a skip path that shares the tensor stays out.
        alias = current.view_as(current)
        alias.register_hook(tally.gradient)
        return (alias, *args[1:])

    def after(name: str, module: nn.Module, args: Any, output: Any) -> None:
        spikes = first_tensor(output)
        tallies[name].count(spikes, name not in by_steps)
        if not membrane and spikes.requires_grad:
            tallies[name].needs_gradient = True
            spikes.register_hook(tallies[name].gradient)  # type: ignore[no-untyped-call]

    watched = find_neurons(network) if membrane else spiking_layers(network) or find_neurons(network)
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    weighted = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, kinds)}
    with hooked(watched, after, before), hooked(weighted, pre=note_weight):
        yield tallies
