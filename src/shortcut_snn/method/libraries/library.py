"""What a wrapper has to know of the library that a network's neurons come from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Reset = Callable[[nn.Module], object]
"""Puts every neuron of a network to rest, without a trace of a graph."""


@dataclass(frozen=True)
class Library:
    """How the networks of one library are to be handled.

    Args:
        name: as its authors write it.
        is_neuron: whether a module is one of its spiking neurons.
        is_stepwise: whether a neuron computes one time step a call (and not a whole sequence).
        reset: puts a network's neurons to rest; None where they keep nothing between calls.
        time_axis: where time lies in what its layers give, if the shape leaves it open; None for nowhere.
        carries_state: whether a network of one time step is given the state of the step before as its argument
            ``state`` and returns the next one.
    """

    name: str
    is_neuron: Callable[[nn.Module], bool]
    is_stepwise: Callable[[nn.Module], bool]
    reset: Reset | None
    time_axis: int | None
    carries_state: bool = False

    def neurons(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return a network's spiking neurons of this library by name, in the order of the network."""
        return {name: module for name, module in network.named_modules() if self.is_neuron(module)}


def is_from(module: nn.Module, package: str) -> bool:
    """Whether a module's class, or one that it inherits from, is defined in a package."""
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(module).__mro__)
