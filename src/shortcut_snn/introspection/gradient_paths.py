"""Gradient paths: which parameters a module's output depends on, read from the autograd graph of one pass."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import Tensor

from .._utils.calls import tensors_in


class GradientPaths:
    """The autograd graph of a pass in training mode, and the nodes at which modules end.

    Args:
        weights: parameters of more than one axis, or all in a network without such. A threshold or a decay alone is
            not worth a branch.
        trained: those of them that are trained.
    """

    def __init__(self, weights: Sequence[Tensor], trained: Sequence[Tensor]) -> None:
        self._weights, self._trained = set(map(id, weights)), set(map(id, trained))
        self.shapes: dict[str, tuple[int, ...]] = {}
        """By module, the shape of its features in the first call."""
        self.output: Any = None
        """What the network returned."""
        self._nodes: dict[str, list[Any]] = {}
        self._leaves = cache(lambda name: _leaves(self._nodes.get(name, [])))

    def add(self, name: str, features: Any) -> None:
        """Add a call of a module. A later operation in place gives the tensor another node, so nodes are kept."""
        if isinstance(features, Tensor):
            self.shapes.setdefault(name, tuple(features.shape))
            nodes = [tensor.grad_fn for tensor in tensors_in(features) if tensor.grad_fn is not None]
            self._nodes.setdefault(name, []).extend(nodes)

    def passes_gradients(self, name: str) -> bool:
        """Return whether a gradient comes from a module's output to weights, trained or frozen."""
        return not self._weights or not self._weights.isdisjoint(self._leaves(name))

    def trains(self, name: str) -> bool:
        """Return whether a gradient comes from a module's output to trained weights."""
        return not self._trained.isdisjoint(self._leaves(name))

    @property
    def some_weights_are_trained(self) -> bool:
        """True if any weights of the network are trained."""
        return bool(self._trained)


def _leaves(nodes: Sequence[Any]) -> set[int]:
    """Return the ids of the parameters that lead to some nodes."""
    reached, left = set[Any](), list(nodes)
    while left:
        node = left.pop()
        if node is not None and node not in reached:
            reached.add(node)
            left.extend(earlier for earlier, _ in node.next_functions)
    return {id(node.variable) for node in reached if hasattr(node, "variable")}
