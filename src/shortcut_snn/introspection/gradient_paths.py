"""Gradient paths: which parameters a module's output depends on, read from the autograd graph of one pass."""

import re
from collections.abc import Collection, Iterable, Sequence
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
        self._features: dict[str, list[Any]] = {}
        self._ends: dict[str, list[Any]] = {}
        self._leaves_of = cache(lambda name: _leaves(self._features.get(name, [])))

    def add(self, name: str, output: Any, features: Any) -> None:
        """Add a call of a module. A later operation in place gives the tensor another node, so nodes are kept."""
        if isinstance(features, Tensor):
            self.shapes.setdefault(name, tuple(features.shape))
            self._features.setdefault(name, []).extend(_nodes(features))
        self._ends.setdefault(name, []).extend(_nodes(output))

    def passes_gradients(self, name: str) -> bool:
        """Return whether a gradient comes from a module's output to weights, trained or frozen."""
        return any(id(leaf.variable) in self._weights for leaf in self._leaves_of(name)) or not self._weights

    @property
    def some_weights_are_trained(self) -> bool:
        """True if any weights of the network are trained."""
        return bool(self._trained)

    def trains(self, name: str) -> bool:
        """Return whether a gradient comes from a module's output to trained weights."""
        return any(id(leaf.variable) in self._trained for leaf in self._leaves_of(name))

    def share_of_output(self, name: str, output: Any) -> float:
        """Return the share of the parameters before a module that the output depends on through this module alone.

        It is 1 on the trunk of a network, and less alongside a shortcut connection.
        """
        before = self._leaves_of(name)
        around = _leaves(_nodes(output), blocked=set(self._ends.get(name, [])))
        return 1 - len(before & around) / len(before) if before else 0.0


def weights_of(output: Any) -> set[int]:
    """Return the ids of the parameters and inputs that the tensors of an output depend on."""
    return {id(leaf.variable) for leaf in _leaves(_nodes(output))}


def is_made_of(some: Tensor, other: Tensor) -> bool:
    """Return whether a tensor depends on weights only through operations that another tensor depends on too.

    Weights have several axes; a neuron's threshold is not a weight. Hidden spikes are so made of what the logits are
    made of, and not the reverse. Spikes and potentials of the same neurons, or a tensor and its mean over time, are so
    in both directions.
    """
    if some.grad_fn is None or other.grad_fn is None:
        return False
    shared = {node for node in _reached([other.grad_fn]) if not hasattr(node, "variable")}
    return all(leaf.variable.dim() < 2 for leaf in _leaves([some.grad_fn], blocked=shared))


def carries_state(output: Tensor) -> bool:
    """Return whether the first of the tensors stacked in an output leads to the second without matrix products."""

    def below(node: Any, *names: str) -> Any:
        while node is not None and any(name in node.name() for name in names):
            node = node.next_functions[0][0]
        return node

    stacked = below(output.grad_fn, "View", "Transpose", "Permute")
    if stacked is None or not any(name in stacked.name() for name in ("Stack", "Cat")):
        return False
    first, second = (below(node, "View", "Unsqueeze") for node, _ in stacked.next_functions[:2])
    products = {node for node in _reached([second]) if re.search(r"mm|mv|Conv", node.name(), re.IGNORECASE)}
    return first in _reached([second], blocked=products)


def _nodes(output: Any) -> list[Any]:
    return [tensor.grad_fn for tensor in tensors_in(output) if tensor.grad_fn is not None]


def _leaves(nodes: Iterable[Any], blocked: Collection[Any] = ()) -> set[Any]:
    """Return the nodes of parameters and inputs that lead to some nodes, without passing through blocked ones."""
    return {node for node in _reached(nodes, blocked) if hasattr(node, "variable")}


def _reached(nodes: Iterable[Any], blocked: Collection[Any] = ()) -> set[Any]:
    """Return the nodes that lead to some nodes, and these, without passing through blocked ones."""
    found, left = set[Any](), list(nodes)
    while left:
        node = left.pop()
        if node is not None and node not in found and node not in blocked:
            found.add(node)
            left.extend(earlier for earlier, _ in node.next_functions)
    return found
