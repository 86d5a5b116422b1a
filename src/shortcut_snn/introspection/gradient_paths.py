"""Gradient paths: which parameters a module's output depends on, read from the autograd graph of one pass."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import Tensor

from .._utils.calls import tensors_in


class GradientPaths:
    """The autograd graph of a pass in training mode, and the nodes at which modules end.

    Args:
        weights: trained parameters of more than one axis, or all in a network without such. A threshold or a decay
            alone is not worth a branch.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = set(map(id, weights))
        self.shapes: dict[str, tuple[int, ...]] = {}
        """By module, the shape of its features in the first call."""
        self.output: Any = None
        """What the network returned."""
        self._nodes: dict[str, list[Any]] = {}
        self.trains = cache(self._trains)
        """Returns whether a gradient comes from a module's output to weights; yes in a network without any."""

    def add(self, name: str, features: Any) -> None:
        """Add a call of a module. A later operation in place gives the tensor another node, so nodes are kept."""
        if isinstance(features, Tensor):
            self.shapes.setdefault(name, tuple(features.shape))
            nodes = [tensor.grad_fn for tensor in tensors_in(features) if tensor.grad_fn is not None]
            self._nodes.setdefault(name, []).extend(nodes)

    def _trains(self, name: str) -> bool:
        reached, left = set[Any](), list(self._nodes.get(name, []))
        while left:
            node = left.pop()
            if node is not None and node not in reached:
                reached.add(node)
                left.extend(earlier for earlier, _ in node.next_functions)
        return not self._weights or any(id(getattr(node, "variable", None)) in self._weights for node in reached)
