"""The layers of a network that an initialisation can set: which norm feeds each neuron, and what is added to it.

Built-in networks declare them (see :mod:`shortcut_snn.nets.roles`), in others :mod:`.matching` finds them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._utils.module_state import hooked
from ..introspection.layers import NORMS
from ..introspection.neurons import find_neurons
from ..nets.roles import Role, declared_roles

Path = Literal["layers", "blocks", "spikes", "currents"]
"""The carrier of the input and the gradient from block to block:

- layers: the only path, as there are no skip connections;
- blocks: neurons after sums, ``spike(f(x) + x)``;
- spikes: sums of spikes, ``spike(f(x)) + x``;
- currents: sums of currents, ``f(spike(x)) + x``.
"""


@dataclass
class Layer:
    """A neuron, the norm whose output is its current, and the layer with weights before that."""

    name: str
    role: Role
    norm: str = ""
    """"" if no norm was found. Then ``weights`` is the layer whose output is the current, or "" as well."""
    projection: str = ""
    """The norm in the projection of the skip path, if there is one."""
    weights: str = ""
    shape: tuple[int, ...] = ()
    """Of a sample of the current."""


@dataclass
class Structure:
    """The layers of a network, and what follows from their roles."""

    network: nn.Module
    neurons: dict[str, nn.Module]
    """All but output neurons, which only integrate."""
    layers: dict[str, Layer]
    """Those of the neurons, in the order of their first calls."""
    skipped: dict[str, str] = field(default_factory=dict)
    """By layer, the reason why it cannot be set."""
    frozen: dict[str, str] = field(default_factory=dict)
    """By layer, the reason why its parameters stay as they are. Its surrogate can be set."""

    def __post_init__(self) -> None:
        """Find the layers that cannot be set."""
        shared = self._shared()
        for name in self.neurons:
            layer = self.layers.get(name)
            if layer is None:
                self.skipped[name] = "it was not called"
            elif not layer.norm and not layer.weights:
                self.skipped[name] = "its current is not the output of a norm or of a layer with weights"
            elif name in shared:
                self.skipped[name] = "its norm or its weights serve an earlier layer too"
            elif layer.norm and getattr(self.network.get_submodule(layer.norm), "weight", None) is None:
                self.skipped[name] = f"its norm, {layer.norm}, has no scale and shift"
            elif (layer.role == "copy" or not layer.norm) and (reason := unchangeable(self.network, layer.weights)):
                self.skipped[name] = reason
            else:
                reasons = [unchangeable(self.network, norm) for norm in (layer.norm, layer.projection) if norm]
                if any(reasons):
                    self.frozen[name] = next(filter(None, reasons))

    def _shared(self) -> set[str]:
        """Return the layers whose norm or weights an earlier layer has too; setting them would change that layer."""
        shared, seen = set(), set[int]()
        for name, layer in self.layers.items():
            modules = [self.network.get_submodule(path) for path in (layer.norm, layer.weights) if path]
            own = {id(parameter) for module in modules for parameter in module.parameters(recurse=False)}
            if own & seen:
                shared.add(name)
            seen |= own
        return shared

    def count(self, *roles: Role) -> int:
        """Return the number of layers with these roles."""
        return sum(layer.role in roles for layer in self.layers.values())

    @cached_property
    def path(self) -> Path:
        """The carrier of the input and the gradient."""
        if self.count("adding"):
            return "spikes"
        if self.count("stream"):
            return "currents"
        return "blocks" if self.blocks else "layers"

    @cached_property
    def main_path(self) -> list[str]:
        """Neurons that input and gradient pass one after another; empty if sums carry both, as in SEW blocks."""
        on_path: dict[Path, tuple[Role, ...]] = {
            "blocks": ("first", "skip", "projected"),
            "layers": ("first", "copy", "inner"),
        }
        return [name for name, layer in self.layers.items() if layer.role in on_path.get(self.path, ())]

    @cached_property
    def blocks(self) -> int:
        """Number of blocks whose sum is a neuron's current."""
        return self.count("skip", "projected")

    @cached_property
    def next_to_projection(self) -> set[str]:
        """Neurons in branches next to a projection, which keep their surrogates and weights."""
        pairs = pairwise(self.layers.values())
        return {layer.name for layer, after in pairs if layer.role == "inner" and after.role == "projected"}

    def is_binary(self, name: str) -> bool:
        """Return whether a neuron's spikes are 0 or 1."""
        return bool(getattr(self.neurons[name], "binary", True))


def declared_layers(network: nn.Module, run: Callable[[], object]) -> list[Layer]:
    """Return the layers as the network declares them; none if it does not, or if parts of it were replaced."""
    roles, neurons, shapes = declared_roles(network), find_neurons(network), dict[str, tuple[int, ...]]()
    norms = [network.get_submodule(role.norm) for role in roles.values() if role.norm]
    if roles.keys() != neurons.keys() or not all(isinstance(norm, NORMS) for norm in norms):
        return []

    def keep_shape(name: str, module: Any, args: Any) -> None:
        shapes.setdefault(name, tuple(args[0].shape[1:]))

    with hooked(neurons, pre=keep_shape), torch.no_grad():
        run()
    layers = [
        Layer(name, role.role, role.norm, role.projection, role.weights, shapes[name])
        for name, role in ((name, roles[name]) for name in shapes)
    ]
    if layers and layers[0].role in ("copy", "inner"):
        layers[0].role = "first"
    return layers


def unchangeable(network: nn.Module, name: str) -> str:
    """Return the reason why the parameters of a layer or norm stay as they are; "" if they can be set."""
    module = network.get_submodule(name)
    if "weight" not in module._parameters and isinstance(getattr(module, "weight", None), Tensor):
        return f"the weights of {name} are parametrised: initialise the network before you parametrise it"
    if not all(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        return f"{name} is frozen"
    return ""
