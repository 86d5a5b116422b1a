"""Find the layers of a network that declares no roles, by what forward passes show.

A pass records the outputs of norms, neurons and layers with weights. A neuron's current is compared with the outputs of
the latest norms: what remains is its residual.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import map_tensors
from .._utils.module_state import hooked, preserving_state
from ..introspection.layers import NORMS, is_layer
from ..introspection.neurons import find_neurons
from ..method.taps import tensor_in
from ..nets.roles import Role
from .structure import Layer


@dataclass
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
        self.latest = self.weights, name
        if isinstance(output, Tensor):
            # A copy, since a residual may be added in place.
            self.norms = [*self.norms[-3:], _Call(name, output.clone(), self.weights, self.takes_spikes)]

    def before_neuron(self, name: str, module: Any, args: Any) -> None:
        current = tensor_in(args)
        if current is None or name in self.layers:
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
