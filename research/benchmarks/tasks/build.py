"""Contenders by name. A library is imported only by the process that runs it."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ..cell import Cell
from ..peers import this_package
from .inference import DeployedTask, UsedTask
from .method import MethodTask
from .network import ConvolutionsTask, NetworkTask, recorded_rates
from .neuron import NeuronTask, linear
from .task import State, Task

Build = Callable[..., Task]

DENSE = ("dense convolutions", "dense linear layer")
"""Contenders whose names start so are the dense layers alone, without norms and neurons."""
SHARED = {
    "networks": "shortcut-snn",
    "neuron": "shortcut-snn",
    "method": "without branches",
    "inference": "shortcut-snn, as trained",
}
"""Of each part, the contender that the others are compared with."""


def _ours(kind: Callable[..., Task], cell: Cell, device: str, state: State, **options: Any) -> Task:
    network = this_package.network(cell)
    network.load_state_dict(state)
    return kind(network, cell, device, **options)


def _peer(
    kind: Callable[..., Task], library: str, variant: str, cell: Cell, device: str, state: State, **options: Any
) -> Task:
    peer = import_module(f"research.benchmarks.peers.{library}")
    return kind(_loaded(getattr(peer, variant)(cell), state), cell, device, **options)


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
    if library == "dense linear layer":
        return NeuronTask(layer, cell, device)
    if library == "shortcut-snn":
        return NeuronTask(nn.Sequential(layer, this_package.NEURONS[cell.network]()), cell, device)
    peer = import_module(f"research.benchmarks.peers.{library}")
    if library == "spikingjelly":
        return NeuronTask(peer.linear_neuron(layer, cell.network), cell, device)
    return NeuronTask(peer.linear_lif(layer), cell, device, getattr(peer, "WEIGHT_FACTOR", 1.0))


_CONTIGUOUS: dict[str, Any] = {"channels_last": False}
_CHANNELS_LAST: dict[str, Any] = {"channels_last": True}
_CONVOLUTIONS: dict[str, Build] = {
    "dense convolutions": partial(_ours, ConvolutionsTask, **_CONTIGUOUS),
    "dense convolutions, channels-last": partial(_ours, ConvolutionsTask, **_CHANNELS_LAST),
}
_BUILD: dict[str, dict[str, Build]] = {
    "networks": {
        "shortcut-snn": partial(_ours, NetworkTask),
        "spikingjelly": partial(_peer, NetworkTask, "spikingjelly", "network", **_CONTIGUOUS),
        "spikingjelly, channels-last": partial(_peer, NetworkTask, "spikingjelly", "network", **_CHANNELS_LAST),
        "spikingjelly, bfloat16 membrane": partial(_peer, NetworkTask, "spikingjelly", "as_shipped", **_CONTIGUOUS),
        "spikingjelly, memory-optimised": partial(
            _peer, NetworkTask, "spikingjelly", "memory_optimised", **_CONTIGUOUS
        ),
        "snntorch, loop over time": partial(_peer, NetworkTask, "snntorch", "loop", pooled=False, **_CONTIGUOUS),
        "snntorch, fused in time": partial(_peer, NetworkTask, "snntorch", "fused", **_CONTIGUOUS),
        "snntorch, fused in time, channels-last": partial(_peer, NetworkTask, "snntorch", "fused", **_CHANNELS_LAST),
        **_CONVOLUTIONS,
    },
    "neuron": {
        name: partial(_neuron, name)
        for name in ("shortcut-snn", "spikingjelly", "snntorch", "norse", "dense linear layer")
    },
    "inference": {
        "shortcut-snn, as trained": partial(_ours, UsedTask),
        "shortcut-snn, deployed": partial(_ours, DeployedTask),
        "spikingjelly": partial(_peer, UsedTask, "spikingjelly", "network", **_CONTIGUOUS),
        "spikingjelly, channels-last": partial(_peer, UsedTask, "spikingjelly", "network", **_CHANNELS_LAST),
        "spikingjelly, bfloat16 membrane": partial(_peer, UsedTask, "spikingjelly", "as_shipped", **_CONTIGUOUS),
        **_CONVOLUTIONS,
    },
    "method": {
        "without branches": partial(_ours, MethodTask, taps=[]),
        "with branches": partial(_ours, MethodTask, taps="stages"),
    },
}


def names(cell: Cell) -> list[str]:
    """Return the names of a cell's contenders."""
    every = list(_BUILD[cell.part])
    if cell.part == "neuron" and cell.network != "linear-lif":
        # snnTorch and Norse do not have these neurons.
        every = ["shortcut-snn", "spikingjelly", "dense linear layer"]
    if cell.precision == "float32":
        # In float32 the membrane is float32 in any case.
        every = [name for name in every if name != "spikingjelly, bfloat16 membrane"]
    return every


def build(cell: Cell, contender: str, device: str, state: State) -> Task:
    """Build a contender with the weights and running statistics of ``state``."""
    return _BUILD[cell.part][contender](cell, device, state)


def _set_rate(network: nn.Module, images: torch.Tensor, rate: float) -> None:
    """Shift the biases of all norms by one number, so that the mean firing rate of the layers is this one."""
    biases = [m.bias for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    low, high = -4.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        for bias in biases:
            bias.fill_(middle)
        with recorded_rates(network) as rates:
            network.train()(images)
        means = rates.means()
        low, high = (middle, high) if sum(means) / len(means) < rate else (low, middle)


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
        if cell.rate is not None:
            _set_rate(network, task.images[:4], cell.rate)
        network.train()(task.images)
    return {key: value.contiguous() for key, value in network.state_dict().items()}
