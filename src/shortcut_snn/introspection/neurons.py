"""The spiking neurons of a network, built-in, third-party and custom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import map_tensors, primary
from .._utils.module_state import hooked
from ..method import Layout
from ..method.taps import first_tensor
from ..neurons import Neuron, NormNeuron
from ..neurons.current_neuron import CurrentNeuron
from .adapters import find_adapters, outermost


@dataclass
class _Custom:
    classes: tuple[type[nn.Module], ...] = ()
    sequences: dict[str, int] = field(default_factory=dict)
    """The axis of time, by name, of the neurons that take a whole sequence; others compute one time step per call."""

    def neurons(self, network: nn.Module) -> dict[str, nn.Module]:
        return {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, self.classes)}


_CUSTOM: ContextVar[_Custom] = ContextVar("custom", default=_Custom())  # noqa: B039


@contextmanager
def custom_neurons(classes: type[nn.Module] | tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Treat modules of some classes as neurons, whose first output is spikes, in a block; with none, change nothing."""
    classes = classes if isinstance(classes, tuple) else (classes,)
    if not all(isinstance(each, type) and issubclass(each, nn.Module) for each in classes):
        raise TypeError(f"spiking must be classes of modules, as in spiking=(LIF,), got {classes!r}")
    token = _CUSTOM.set(_Custom(classes) if classes else _CUSTOM.get())
    try:
        yield
    finally:
        _CUSTOM.reset(token)


def find_sequence_neurons(
    network: nn.Module, run: Callable[[Any], object], samples: int, layout: Layout, example: Any
) -> None:
    """Find out which custom neurons take a whole sequence: they are called once, not on ``samples`` first.

    Or they are called once on the first two sizes of an example that has time: ``[N, T, ...]`` if the layout's batch
    axis is 0.
    """
    custom = _CUSTOM.get()
    sizes = primary(example).shape if layout.run is None else ()
    neurons = custom.neurons(network)

    def shapes_of(example: Any) -> dict[str, torch.Size]:
        """Return the shape of the output of each neuron that is called once."""
        calls: dict[str, list[torch.Size]] = {}

        def count(name: str, module: Any, args: Any, output: Any) -> None:
            calls.setdefault(name, []).append(first_tensor(output).shape)

        with hooked(neurons, count):
            run(example)
        return {name: shape for name, (shape, *others) in calls.items() if not others}

    shapes = shapes_of(example) if neurons else {}
    lengths = {name: shape[0] for name, shape in shapes.items() if shape[0] != samples}
    axis = layout.batch_axis
    if len(lengths) < len(shapes) and axis is not None and samples:
        # There may be as many time steps as samples. One sample more does not change the time steps.
        repeated = map_tensors(partial(_with_one_more, axis=axis, samples=samples), example)
        lengths |= {name: shape[0] for name, shape in shapes_of(repeated).items() if shape[0] == samples}
    for name, shape in shapes.items():
        like_input = len(sizes) > 2 and shape[:2] == sizes[:2]
        if like_input or name in lengths:
            custom.sequences[name] = int(like_input and layout.batch_axis == 0)


def _with_one_more(x: Tensor, axis: int, samples: int) -> Tensor:
    return torch.cat([x, x.narrow(axis, 0, 1)], axis) if x.dim() > axis and x.shape[axis] == samples else x


def spiking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the built-in layers whose outputs are spikes, in the order of the network.

    The neuron inside such a layer is not listed separately: both may run as one.
    """
    return outermost(network, lambda module: isinstance(module, NormNeuron | CurrentNeuron | Neuron))


def spiking_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of a network whose outputs are spikes, built-in, of a known library or custom, by name."""
    layers = spiking_layers(network)
    for adapter in find_adapters(network):
        layers |= adapter.neurons(network)
    return layers | _CUSTOM.get().neurons(network)


def find_neurons(network: nn.Module) -> dict[str, nn.Module]:
    """Return the neurons of a network, built-in, of a known library or custom, by the names of their layers."""
    layers = spiking_modules(network)
    return {name: layer.neuron if isinstance(layer, NormNeuron) else layer for name, layer in layers.items()}


def learned_by_neurons(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that neurons learn, such as decays, thresholds and the matrices over time of a PSN.

    The weights of connections are not among them, even if a recurrent neuron of a library holds them.
    """
    built_in = [module for module in nn.Module.modules(network) if isinstance(module, Neuron)]
    learned = [parameter for neuron in built_in for parameter in neuron.parameters()]
    for adapter in find_adapters(network):
        for neuron in adapter.neurons(network).values():
            # A layer inside a neuron connects it to itself. Norse's recurrent cells hold such weights directly.
            own = neuron.named_parameters(recurse=False)
            learned += [parameter for name, parameter in own if not name.endswith("_weights")]
    return learned


def single_step_neurons(network: nn.Module) -> set[str]:
    """Return the names of the library's and custom neurons that compute one time step per call."""
    custom = _CUSTOM.get()
    return (custom.neurons(network).keys() - custom.sequences.keys()) | {
        name
        for adapter in find_adapters(network)
        for name, neuron in adapter.neurons(network).items()
        if adapter.is_single_step(neuron)
    }


def batch_first_neurons(network: nn.Module) -> set[str]:
    """Return the names of the library's and custom neurons that take sequences ``[N, T, ...]``."""
    adapters = [adapter for adapter in find_adapters(network) if adapter.batch_first]
    names = {name for adapter in adapters for name in adapter.neurons(network)}
    return names | {name for name, axis in _CUSTOM.get().sequences.items() if axis}


def steps_first(network: nn.Module) -> Callable[[str, nn.Module, Any], Tensor]:
    """Return a function of a neuron's name, itself and its output, which gives its spikes as ``[T, N, ...]``."""
    single_step, batch_first = single_step_neurons(network), batch_first_neurons(network)

    def read_spikes(name: str, neuron: nn.Module, output: Any) -> Tensor:
        spikes = first_tensor(output)
        if name in single_step:
            return spikes.unsqueeze(0)
        if name not in batch_first:
            return spikes
        if (samples := getattr(neuron, "batch_size", None)) is not None:
            # sinabs' Squeeze layers take [N * T, ...].
            spikes = spikes.unflatten(0, (samples, getattr(neuron, "num_timesteps", -1)))  # type: ignore[no-untyped-call]
        return spikes.transpose(0, 1)

    return read_spikes
