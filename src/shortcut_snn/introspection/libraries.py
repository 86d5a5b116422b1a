"""What is particular to the networks of other libraries, none of which is imported unless a network is made of it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from importlib import import_module
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from ..method import Reset


@dataclass(frozen=True)
class Library:
    """How the networks of one library are to be handled.

    Args:
        name: as its authors write it.
        is_neuron: whether a module is one of its spiking neurons.
        is_stepwise: whether a neuron computes one time step a call (and not a whole sequence).
        reset: puts a network's neurons to rest; None where they keep nothing between calls.
        time_axis: where time lies in what its layers give, if the shape leaves it open; None for nowhere.
        to_sequences: has a network's layers take whole sequences from then on, where that is a mode of theirs.
        to_sequences_call: how somebody calls that on ``net``.

    Example:
        >>> SPIKINGJELLY.neurons(nn.Sequential(nn.Linear(2, 2)))
        {}
    """

    name: str
    is_neuron: Callable[[nn.Module], bool]
    is_stepwise: Callable[[nn.Module], bool]
    reset: Reset | None
    time_axis: int | None
    to_sequences: Reset | None = None
    to_sequences_call: str = ""

    def neurons(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return a network's spiking neurons of this library by name, in the order of the network."""
        # Not the network's own method, since some mean something else by their own named_modules.
        return {name: module for name, module in nn.Module.named_modules(network) if self.is_neuron(module)}


def _is_from(module: nn.Module, package: str) -> bool:
    """Whether a module's class, or one that it inherits from, is defined in a package."""
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(module).__mro__)


def _is_norse(module: nn.Module) -> bool:
    # A leaky integrator does not spike.
    return _is_from(module, "norse.torch.module.snn") and not _is_from(module, "norse.torch.module.leaky_integrator")


def _is_snntorch(module: nn.Module) -> bool:
    return _is_from(module, "snntorch._neurons")


def _reset_snntorch(network: nn.Module) -> None:
    """Reset this network's neurons alone: ``snntorch.utils.reset`` goes through those of all networks there are.

    The buffers become empty, as in a new neuron. ``reset_mem`` leaves zeros in the shape of the last batch, which
    DistributedDataParallel would broadcast to, and an average of models copy from, networks that saw another shape.
    """
    for neuron in nn.Module.modules(network):
        if not (_is_snntorch(neuron) and hasattr(neuron, "reset_mem")):
            continue
        neuron.reset_mem()  # type: ignore[operator]
        lasting = neuron.state_dict().keys()
        for name, state in neuron.named_buffers(recurse=False):
            if name not in lasting and isinstance(state, Tensor):
                setattr(neuron, name, torch.zeros(0, dtype=state.dtype, device=state.device))


def resettable(network: nn.Module, method: str) -> list[nn.Module]:
    """Return a network's modules that have a method of a name, but for metrics: their state is their result.

    Example:
        >>> resettable(nn.ReLU(), "reset")
        []
    """
    modules = list(nn.Module.modules(network))
    return [m for m in modules if callable(getattr(m, method, None)) and not _is_from(m, "torchmetrics")]


def _reset_spikingjelly(network: nn.Module) -> None:
    # As its reset_net does, which would take metrics too.
    for module in resettable(network, "reset"):
        module.reset()  # type: ignore[operator]


def _multi_step(network: nn.Module) -> None:
    import_module("spikingjelly.activation_based.functional").set_step_mode(network, "m")


def _reset_sinabs(network: nn.Module) -> None:
    for module in nn.Module.modules(network):
        if _is_from(module, "sinabs.layers.stateful_layer"):
            # Empty, as in a new neuron: its own reset writes zeros over what the backward pass still needs.
            for name, state in list(module.named_buffers(recurse=False)):
                setattr(module, name, torch.zeros(0, dtype=state.dtype, device=state.device))


# 2.0.0: neurons keep their membrane potential until reset; in step mode "m" a layer takes a sequence [T, N, ...].
SPIKINGJELLY = Library(
    "SpikingJelly",
    lambda module: _is_from(module, "spikingjelly.activation_based.neuron"),
    lambda module: getattr(module, "step_mode", "m") == "s",
    _reset_spikingjelly,
    time_axis=0,
    to_sequences=_multi_step,
    to_sequences_call="spikingjelly.activation_based.functional.set_step_mode(net, 'm')",
)
# 1.0.0: neurons keep their last membrane potential as a buffer; LeakyParallel and its like take whole sequences.
SNNTORCH = Library(
    "snnTorch", _is_snntorch, lambda module: hasattr(module, "reset_mem"), _reset_snntorch, time_axis=None
)
# 1.1.0: neurons are given their state and return the next; modules over [T, N, ...] and cells give (spikes, state).
NORSE = Library(
    "Norse",
    _is_norse,
    lambda module: any(base.__name__ in ("SNNCell", "SNNRecurrentCell") for base in type(module).__mro__),
    reset=None,
    time_axis=0,
)
# Up to 0.0.0.0.14: neurons of one time step, and of whole sequences under names of their own.
CLOCK_DRIVEN = Library(
    "SpikingJelly (clock_driven)",
    lambda module: _is_from(module, "spikingjelly.clock_driven.neuron"),
    lambda module: not type(module).__name__.startswith("MultiStep"),
    _reset_spikingjelly,
    time_axis=0,
)
# 3.1: neurons take [N, T, ...], or [N * T, ...] where they squeeze, and keep their potential until reset.
SINABS = Library(
    "sinabs",
    lambda module: _is_from(module, "sinabs.layers.stateful_layer") and not type(module).__name__.startswith("ExpLeak"),
    lambda module: False,
    _reset_sinabs,
    time_axis=1,
)
LIBRARIES = (SPIKINGJELLY, CLOCK_DRIVEN, SNNTORCH, NORSE, SINABS)


def libraries_of(network: nn.Module) -> list[Library]:
    """Return the libraries that a network's neurons come from, told by their classes.

    Example:
        >>> libraries_of(nn.Sequential(nn.Linear(2, 2)))
        []
    """
    return [library for library in LIBRARIES if library.neurons(network)]


def steepness(neuron: nn.Module, value: float | None = None) -> float | None:
    """Return how steep the surrogate of a neuron of another library is; None where it has nothing that says so.

    Args:
        neuron: of SpikingJelly, whose surrogate has an ``alpha``; of snnTorch, whose is a function that was made with a
            ``slope`` or an ``alpha``; of Norse, whose parameters have an ``alpha``.
        value: what it becomes, for this neuron alone.

    Example:
        >>> steepness(nn.ReLU()) is None
        True
    """
    given: Any = neuron
    surrogate: Any = getattr(neuron, "surrogate_function", None)
    if hasattr(surrogate, "alpha"):
        if value is not None:
            surrogate = given.surrogate_function = copy.copy(surrogate)
            surrogate.alpha = value
        return float(surrogate.alpha)
    parameters: Any = getattr(neuron, "p", None)
    if hasattr(parameters, "alpha") and hasattr(parameters, "_replace"):
        if value is not None:
            parameters = given.p = parameters._replace(alpha=torch.as_tensor(value))
        return float(parameters.alpha)
    function: Any = getattr(neuron, "spike_grad", None)
    names = function.__code__.co_freevars if isinstance(function, FunctionType) else ()
    for name in {"slope", "alpha"}.intersection(names):
        cells = list(function.__closure__)
        if value is not None:
            cells[names.index(name)] = CellType(value)
            twin = FunctionType(function.__code__, function.__globals__, closure=tuple(cells))
            given.spike_grad = update_wrapper(twin, function)
        return float(cells[names.index(name)].cell_contents)
    return None
