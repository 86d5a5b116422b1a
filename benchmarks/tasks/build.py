"""Contenders by name. A library is imported only by the process that runs it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from ..cell import Cell
from ..peers import this_package
from .inference import DeployedTask, UsedTask
from .method import MethodTask
from .network import ConvolutionsTask, NetworkTask
from .neuron import NeuronTask, linear
from .task import State, Task

Build = Callable[[Cell, str, State], Task]

LOWER_BOUNDS = ("convolutions only", "linear layer only")
"""Contenders whose names start so do a part of the work of the others, which bounds their time from below."""
SHARED = {
    "networks": "shortcut-snn",
    "neuron": "shortcut-snn",
    "method": "without branches",
    "inference": "shortcut-snn, as trained",
}
"""Of each part, the contender that the others are compared with."""


def _ours(cell: Cell, device: str, state: State) -> Task:
    network = this_package.network(cell)
    network.load_state_dict(state)
    return NetworkTask(network, cell, device)


def _convolutions(channels_last: bool, cell: Cell, device: str, state: State) -> Task:
    network = this_package.network(cell)
    network.load_state_dict(state)
    return ConvolutionsTask(network, cell, device, channels_last)


def _as_trained(cell: Cell, device: str, state: State) -> Task:
    network = this_package.network(cell)
    network.load_state_dict(state)
    return UsedTask(network, cell, device)


def _deployed(cell: Cell, device: str, state: State) -> Task:
    network = this_package.network(cell)
    network.load_state_dict(state)
    return DeployedTask(network, cell, device)


def _used_spikingjelly(variant: str, channels_last: bool, cell: Cell, device: str, state: State) -> Task:
    from ..peers import spikingjelly

    return UsedTask(_loaded(getattr(spikingjelly, variant)(cell), state), cell, device, channels_last)


def _spikingjelly(variant: str, channels_last: bool, cell: Cell, device: str, state: State) -> Task:
    from ..peers import spikingjelly

    network = getattr(spikingjelly, variant)(cell)
    return NetworkTask(_loaded(network, state), cell, device, channels_last)


def _snntorch(variant: str, channels_last: bool, cell: Cell, device: str, state: State) -> Task:
    from ..peers import snntorch

    snntorch.forget()
    network = getattr(snntorch, variant)(cell)
    return NetworkTask(_loaded(network, state), cell, device, channels_last, pooled=variant == "fused")


def _loaded(network: nn.Module, state: State) -> nn.Module:
    """Copy weights and statistics into a peer, whose keys may differ only by what its neurons and wrappers add."""
    inner = {key: key.replace(".module.", ".").replace("._module.", ".") for key in network.state_dict()}
    values = {key: state[name] for key, name in inner.items() if name in state}
    if len(values) != len(state):
        raise ValueError(f"not every weight exists in the peer: {sorted(set(state) - set(inner.values()))}")
    network.load_state_dict(values, strict=False)
    return network


def _neuron(library: str, cell: Cell, device: str, state: State) -> Task:
    layer = linear(cell, state)
    if library == "linear layer only":
        return NeuronTask(layer, cell, device)
    if library == "shortcut-snn":
        return NeuronTask(nn.Sequential(layer, this_package.NEURONS[cell.network]()), cell, device)
    if library == "spikingjelly":
        from ..peers import spikingjelly

        return NeuronTask(spikingjelly.linear_neuron(layer, cell.network), cell, device)
    if library == "snntorch":
        from ..peers import snntorch

        return NeuronTask(snntorch.linear_lif(layer), cell, device)
    from ..peers import norse

    return NeuronTask(norse.linear_lif(layer), cell, device, norse.WEIGHT_FACTOR)


def _method(taps: str | list[str], cell: Cell, device: str, state: State) -> Task:
    network = this_package.network(cell)
    network.load_state_dict(state)
    return MethodTask(network, cell, device, taps)


_BUILD: dict[str, dict[str, Build]] = {
    "networks": {
        "shortcut-snn": _ours,
        "spikingjelly": partial(_spikingjelly, "network", False),
        "spikingjelly, channels-last": partial(_spikingjelly, "network", True),
        "spikingjelly, bfloat16 membrane": partial(_spikingjelly, "as_shipped", False),
        "spikingjelly, memory-optimised": partial(_spikingjelly, "memory_optimised", False),
        "snntorch, loop over time": partial(_snntorch, "loop", False),
        "snntorch, fused in time": partial(_snntorch, "fused", False),
        "snntorch, fused in time, channels-last": partial(_snntorch, "fused", True),
        "convolutions only": partial(_convolutions, False),
        "convolutions only, channels-last": partial(_convolutions, True),
    },
    "neuron": {
        name: partial(_neuron, name)
        for name in ("shortcut-snn", "spikingjelly", "snntorch", "norse", "linear layer only")
    },
    "inference": {
        "shortcut-snn, as trained": _as_trained,
        "shortcut-snn, deployed": _deployed,
        "spikingjelly": partial(_used_spikingjelly, "network", False),
        "spikingjelly, channels-last": partial(_used_spikingjelly, "network", True),
        "spikingjelly, bfloat16 membrane": partial(_used_spikingjelly, "as_shipped", False),
        "convolutions only": partial(_convolutions, False),
        "convolutions only, channels-last": partial(_convolutions, True),
    },
    "method": {"without branches": partial(_method, []), "with branches": partial(_method, "stages")},
}


def names(cell: Cell) -> list[str]:
    """Return the names of a cell's contenders."""
    every = list(_BUILD[cell.part])
    if cell.part == "neuron" and cell.network != "linear-lif":
        # snnTorch and Norse do not have these neurons.
        every = ["shortcut-snn", "spikingjelly", "linear layer only"]
    if cell.precision == "float32":
        # In float32 the membrane is float32 in any case.
        every = [name for name in every if name != "spikingjelly, bfloat16 membrane"]
    return every


def build(cell: Cell, contender: str, device: str, state: State) -> Task:
    """Build a contender with the weights and running statistics of ``state``."""
    return _BUILD[cell.part][contender](cell, device, state)


def shared_state(cell: Cell) -> State:
    """Return the weights that every contender of a cell is given.

    Running statistics are those of the cell's batch: without them the deep layers of a fresh network do not spike
    in eval mode.
    """
    if cell.part == "neuron":
        return linear(cell, None).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = this_package.network(cell)
    task = NetworkTask(network, cell, "cpu")
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(task.images)
    return {key: value.contiguous() for key, value in network.state_dict().items()}
