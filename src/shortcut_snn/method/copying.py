"""Deep copies of networks whose neurons hold a graph, which ``copy.deepcopy`` alone refuses."""

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from .libraries import Reset


def states(network: nn.Module) -> dict[int, Any]:
    """Return copies, by id, of the tensors in a network that are results: a neuron's state after a pass.

    Given to ``copy.deepcopy`` as its memo, they take the place of the originals.
    """
    return _results(vars(module) for module in network.modules())


def _results(values: Iterable[Any], depth: int = 4) -> dict[int, Any]:
    copies: dict[int, Any] = {}
    for value in values if depth else ():
        if isinstance(value, Tensor) and not value.is_leaf:
            copies[id(value)] = value.detach().clone()
        elif isinstance(value, dict | list | tuple):
            copies |= _results(value.values() if isinstance(value, dict) else value, depth - 1)
    return copies


def dry_copy(network: nn.Module, reset: Reset | None) -> nn.Module:
    """Return a copy in eval mode with its neurons at rest, for a pass that leaves no trace in the network."""
    twin = copy.deepcopy(network, states(network)).eval()
    if reset is not None:
        reset(twin)
    return twin
