"""The layers of a network that an initialisation can set: which norm feeds each neuron, and what is added to it.

Built-in networks declare them (see :mod:`shortcut_snn.nets.roles`). In others, forward passes show them: a pass records
the outputs of norms, neurons and layers with weights. A neuron's current is compared with the outputs of the latest
norms: what remains is its residual.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._utils.calls import map_tensors
from .._utils.module_state import hooked, preserving_state
from ..introspection.layers import NORMS, is_layer
from ..introspection.neurons import find_neurons
from ..method.taps import tensor_in
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
    calls: int = 1
    """Of the neuron in a pass: the number of time steps, if it takes one at a time."""
    later_norms: dict[str, list[str]] = field(default_factory=dict)
    """By norm, those of later time steps, if each step has its own, as in BNTT (Kim and Panda, 2021)."""


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
            elif not self.has_shift(layer) and layer.role in ("skip", "projected"):
                self.skipped[name] = f"its norm, {layer.norm}, has no shift to keep the rate of its spikes"
            elif (layer.role == "copy" or not layer.norm) and (reason := unchangeable(self.network, layer.weights)):
                self.skipped[name] = reason
            else:
                for norm in filter(None, (layer.norm, layer.projection)):
                    for of_step in (norm, *layer.later_norms.get(norm, ())):
                        if reason := unchangeable(self.network, of_step):
                            self.frozen.setdefault(name, reason)
                if layer.role == "copy" and not self.has_shift(layer):
                    layer.role = "inner"

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

    def has_shift(self, layer: Layer) -> bool:
        """Return whether a layer has no norm, or one with a shift."""
        return not layer.norm or self.network.get_submodule(layer.norm).bias is not None

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
    layers = [Layer(name, **vars(roles[name]), shape=shape) for name, shape in shapes.items()]
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


# Layers of networks that declare none


# Equality would compare tensors.
@dataclass(eq=False)
class _Call:
    name: str
    output: Tensor
    weights: str = ""
    takes_spikes: bool = False
    """Whether the layer before takes the output of the latest neuron as it is."""


@dataclass
class _Recorder:
    weight_sizes: Mapping[str, int]
    layers: dict[str, Layer] = field(default_factory=dict)
    norms: list[_Call] = field(default_factory=list)
    spikes: list[_Call] = field(default_factory=list)
    weights: str = ""
    takes_spikes: bool = False
    latest: tuple[str, str] = "", ""
    """The latest layer with weights, and the norm after it, if there is one."""
    before: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The same for each neuron, when it was called."""
    norms_after: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    """By layer with weights, the norms right after its calls, in their order."""

    def before_weights(self, name: str, module: Any, args: Any) -> None:
        """Find how the spikes of the latest neurons arrive: as they are, or added to others."""
        x = tensor_in(args)
        self.weights, self.takes_spikes = name, False
        if x is None:
            return
        rests = [
            (call, x.reshape(call.output.shape) - call.output)
            for call in self.spikes
            if call.output.numel() == x.numel()
        ]
        if any(not rest.any() for _, rest in rests):
            self.takes_spikes = True
            return
        added = [self.layers[call.name] for call, rest in rests if _are_counts(rest)]
        if added:
            # Of a neuron in the branch and one in the projection, the branch has more weights.
            branch, *projection = sorted(added, key=lambda layer: -self.weight_sizes.get(layer.weights, 0))
            roles: list[tuple[Layer, Role]] = [(branch, "adding"), *((other, "first") for other in projection)]
            for layer, role in roles:
                if layer.role in ("inner", "copy"):
                    layer.role = role
            self.spikes.clear()

    def after_weights(self, name: str, module: Any, args: Any, output: Any) -> None:
        self.latest = name, ""

    def after_norm(self, name: str, module: Any, args: Any, output: Any) -> None:
        if self.latest == (self.weights, ""):
            self.norms_after[self.weights][name] = None
        self.latest = self.weights, name
        if isinstance(output, Tensor):
            # A copy, since a residual may be added in place.
            self.norms = [*self.norms[-3:], _Call(name, output.clone(), self.weights, self.takes_spikes)]

    def before_neuron(self, name: str, module: Any, args: Any) -> None:
        current = tensor_in(args)
        if called := self.layers.get(name):
            called.calls += 1
        if called or current is None:
            return
        layer = Layer(name, "inner" if self.layers else "first", shape=tuple(current.shape[1:]))
        self.layers[name], self.before[name] = layer, self.latest
        calls = [call for call in self.norms if fits(call.output, current)]
        for count in (1, 2):
            for group in combinations(reversed(calls), count):
                rest = current - sum(shaped_like(current, call.output) for call in group)
                # Sums of floats may be rounded in another order.
                if rest.abs().max() < 1e-4:
                    self._set_norms(layer, group, layer.role if count == 1 else "projected")
                    if count == 1 and group[0].takes_spikes and layer.role == "inner":
                        layer.role = "copy"
                    return
                if count == 1 and _are_counts(rest):
                    self._set_norms(layer, group, "skip")
                    return
        if calls:
            self._set_norms(layer, calls[-1:], "stream")

    def _set_norms(self, layer: Layer, calls: Sequence[_Call], role: Role) -> None:
        main, *projections = sorted(calls, key=lambda call: -self.weight_sizes.get(call.weights, 0))
        layer.role, layer.norm, layer.weights = role, main.name, main.weights
        layer.projection = projections[0].name if projections else ""
        self.norms = [call for call in self.norms if call not in calls]

    def after_neuron(self, name: str, module: Any, args: Any, output: Any) -> None:
        spikes = tensor_in(output)
        if spikes is not None:
            self.spikes = [*self.spikes[-1:], _Call(name, spikes.clone())]


def _are_counts(x: Tensor) -> bool:
    """Return whether values are integers from 0 on, and not all 0, as sums of spikes are."""
    return bool((x - x.round()).abs().max() < 1e-3 and x.min() > -1e-3 and x.max() > 0.5)


def fits(output: Tensor, current: Tensor) -> bool:
    """Return whether the output of a norm may be a neuron's current, perhaps the same one at every time step."""
    return output.numel() == current.numel() or (
        current.dim() > 2 and output.numel() * current.shape[0] == current.numel()
    )


def shaped_like(current: Tensor, output: Tensor) -> Tensor:
    """Return the output of a norm, ``[T * N, ...]`` or ``[N, ...]``, in the shape of a current ``[T, N, ...]``."""
    return output.reshape(current.shape if output.numel() == current.numel() else (1, *current.shape[1:]))


def matched_layers(network: nn.Module, run: Callable[[], object]) -> list[Layer]:
    """Return the layers of a network by what a forward pass shows."""
    weighted = {name: module for name, module in nn.Module.named_modules(network) if is_layer(module)}
    sizes = {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in weighted.items()}
    norms = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, NORMS)}
    recorder = _Recorder(sizes)
    with (
        hooked(weighted, recorder.after_weights, recorder.before_weights),
        hooked(norms, recorder.after_norm),
        hooked(find_neurons(network), recorder.after_neuron, recorder.before_neuron),
        torch.no_grad(),
    ):
        run()
    _see_through(network, run, recorder)
    layers = list(recorder.layers.values())
    shapes = [layer.shape for layer in layers if layer.role == "adding"]
    if layers and layers[-1].shape in shapes:
        # What takes the sum of the last block may be a pooling.
        layers[-1].role = "adding"
    has_skips = any(layer.role in ("skip", "projected", "adding", "stream") for layer in layers)
    for layer in layers:
        if layer.role == "copy" and (has_skips or not can_copy(weighted[layer.weights])):
            layer.role = "inner"
    first = {norm for layer in layers for norm in (layer.norm, layer.projection)}
    for layer in layers:
        for followers in recorder.norms_after.values():
            later = [norm for norm in followers if norm not in first]
            own = followers.keys() & {layer.norm, layer.projection} if later else ()
            layer.later_norms |= dict.fromkeys(own, later)
    return layers


def _see_through(network: nn.Module, run: Callable[[], object], recorder: _Recorder) -> None:
    """Find the norms and weights that feed a neuron through pools, dropout, flatten and reshape.

    Further passes get the same spikes, so that a change in one layer does not reach another. A current that doubles
    with the output of the latest layer depends on nothing else. A norm must also pass on its shift. A current that
    depends on the latest norm alone, and takes less than its shift, comes from a gate; its layer has no norm then.
    """
    open_layers = {layer.name: layer for layer in recorder.layers.values() if layer.role == "stream" or not layer.norm}
    sources = {name: norm or weights for name, (weights, norm) in recorder.before.items() if name in open_layers}
    modules = {name: module for name, module in nn.Module.named_modules(network) if name and name in sources.values()}
    neurons, outputs = find_neurons(network), defaultdict[str, list[Any]](list)

    def currents(change: Callable[[Tensor], Tensor] | None = None, but: str = "") -> dict[str, Tensor]:
        first: dict[str, Tensor] = {}
        replayed = {name: iter(recorded) for name, recorded in outputs.items()}

        def before_neuron(name: str, module: Any, args: Any) -> None:
            if name in open_layers:
                first.setdefault(name, args[0].clone())

        def after_neuron(name: str, module: Any, args: Any, output: Any) -> Any:
            if change is None:
                outputs[name].append(output)
            # A copy, since a residual may be added in place.
            return map_tensors(torch.clone, output if change is None else next(replayed[name]))

        def after_layer(name: str, module: Any, args: Any, output: Any) -> Any:
            return change(output) if change and name != but and isinstance(output, Tensor) else None

        with (
            preserving_state(network),
            torch.no_grad(),
            hooked(neurons, after_neuron, before_neuron),
            hooked(modules, after_layer),
        ):
            run()
        return first

    if not modules:
        return
    once, doubled, shifted = currents(), currents(lambda x: 2 * x), currents(lambda x: x + 1)
    taken = {layer.norm or layer.weights for layer in recorder.layers.values() if layer.name not in open_layers}
    for name, layer in open_layers.items():
        weights, norm = recorder.before[name]
        feeds = bool(once[name].any()) and torch.equal(doubled[name], 2 * once[name])
        # Dropout passes on a shift on average.
        shifts = abs(float((shifted[name] - once[name]).mean()) - 1) < 0.1
        if sources[name] in modules and sources[name] not in taken and feeds and (shifts or not norm):
            layer.role = "first" if layer is next(iter(recorder.layers.values())) else "inner"
            layer.norm, layer.weights, layer.projection = norm, weights, ""
            taken.add(sources[name])
        elif layer.role == "stream" and float((shifted[name] - once[name]).mean()) < 0.9:
            others = currents(lambda x: x + 1, but=sources[name])
            if torch.equal(others[name], once[name]):
                layer.role, layer.norm, layer.weights = "inner", "", ""


def can_copy(module: nn.Module) -> bool:
    """Return whether a layer with weights can return its input."""
    if isinstance(module, nn.Linear):
        return module.in_features == module.out_features
    return (
        isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and module.in_channels == module.out_channels
        and module.groups == 1
        and {*module.stride, *module.dilation} == {1}
        and all(size % 2 for size in module.kernel_size)
        and module.padding in ("same", tuple(size // 2 for size in module.kernel_size))
    )
