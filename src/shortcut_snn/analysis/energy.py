"""Additions, multiplications and energy of an inference, counted from the spikes that flow.

A layer that is fed spikes adds a weight for every spike and every output that it reaches; one that is fed anything
else (an image, a current, the counts that SEW blocks pass on) multiplies and adds for every weight it uses. A matrix
product of two activations, as in attention, adds 1 wherever two spikes meet, or, where one side alone is spikes, a row
or column of the other for each of them. Normalisations are taken as folded into the layers before them. Not counted, as
is the custom: biases, pooling, residual sums, masks, and the neurons' own updates, of which the number is reported.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..inspection import hooked, preserving_state
from ..method.taps import first_tensor
from .probe import Reset, neurons, resetting

# Picojoules in 45 nm, 32-bit floating point: M. Horowitz, "Computing's energy problem (and what we can do about it)",
# ISSCC 2014: 3.7 for a multiplication and 0.9 for an addition.
MULTIPLY_ACCUMULATE = 4.6
ADDITION = 0.9


@dataclass
class LayerOperations:
    """What one convolution, linear layer or product of two activations does, summed over all inputs."""

    additions: int = 0
    """Weights added for a spike."""
    multiplications: int = 0
    """Weights multiplied and accumulated."""
    dense: int = 0
    """Multiplications if every input were a number, padding included."""
    lead: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """Sizes of its inputs' axes before those of one sample, as time and batch are, and how often each came."""
    tokens: bool = False
    """Whether axes of tokens may stand between those of time and batch and the last."""


@dataclass
class Operations:
    """What a network does, summed over all inputs."""

    layers: dict[str, LayerOperations] = field(default_factory=dict)
    updates: int = 0
    """Membrane potentials computed: neurons times time steps."""


@dataclass(frozen=True)
class LayerEnergy:
    """One layer, for one input."""

    layer: str
    additions: float
    multiplications: float
    relu_multiplications: float
    """Of the same layer in the same network with ReLUs, which sees the input once."""

    @property
    def energy(self) -> float:
        """In picojoules."""
        return ADDITION * self.additions + MULTIPLY_ACCUMULATE * self.multiplications

    @property
    def relu_energy(self) -> float:
        """In picojoules."""
        return MULTIPLY_ACCUMULATE * self.relu_multiplications


@dataclass(frozen=True)
class EnergyReport:
    """A network, for one input: the mean over those that were counted."""

    layers: tuple[LayerEnergy, ...]
    updates: float
    """Membrane potentials computed; left out of the energy."""

    @property
    def energy(self) -> float:
        """In picojoules."""
        return sum(layer.energy for layer in self.layers)

    @property
    def relu_energy(self) -> float:
        """In picojoules, of the same network with ReLUs."""
        return sum(layer.relu_energy for layer in self.layers)


@contextmanager
def count_operations(network: nn.Module) -> Iterator[Operations]:
    """Count what a network does in the passes of a block.

    The products of two activations are found by the functions that compute them, ``torch.matmul`` and ``torch.bmm``,
    and named after the module that calls these, and their order in a call of it.
    """
    found = Operations()
    products = _Products(found.layers)

    @torch.no_grad()
    def layer(name: str, module: Any, args: Any, output: Any) -> None:
        _add(found.layers.setdefault(name, LayerOperations()), module, args[0].detach())

    def update(name: str, module: nn.Module, args: Any, output: Any) -> None:
        found.updates += first_tensor(output).numel()

    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
    layers = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    calls = hooked(dict(network.named_modules()), products.leave, products.enter)
    with calls, hooked(layers, layer), hooked(neurons(network), update), products:
        yield found


def measure_energy(
    network: nn.Module, inputs: Sequence[Tensor], time_steps: int, *, reset: Reset | None = None
) -> EnergyReport:
    """Run inputs through a network in eval mode and return the energy of one of them; the network is left as it was.

    Args:
        network: any with convolutions and linear layers.
        inputs: batches of images ``[N, C, H, W]`` or of frames ``[T, N, C, H, W]``.
        time_steps: T.
        reset: called before each batch and at the end, for networks that keep a state; by default that of the library
            that the neurons come from.

    Raises:
        ValueError: no inputs, or none of these layers.

    Example:
        >>> from torch import nn
        >>> from shortcut_snn.neurons import IF
        >>> network = nn.Sequential(nn.Flatten(2), IF(), nn.Linear(12, 10))
        >>> report = measure_energy(network, [torch.full((4, 2, 3, 2, 2), 0.5)], time_steps=4)
        >>> report.layers[0].additions  # each of 12 neurons fires once in 4 steps, at the third
        120.0
        >>> f"{report.energy:.1f} pJ, {report.relu_energy:.1f} pJ with ReLUs"
        '108.0 pJ, 552.0 pJ with ReLUs'
    """
    if not sum(map(_samples, inputs)):
        raise ValueError("give at least one input to count operations of")
    sums: dict[str, list[float]] = {}
    updates, rest = 0, resetting(network, reset)
    with preserving_state(network, training=False), torch.no_grad():
        for batch in inputs:
            rest(network)
            with count_operations(network) as found:
                network(batch)
            updates += found.updates
            for name, layer in found.layers.items():
                steps = _steps(layer, _samples(batch), time_steps)
                seen = (layer.additions, layer.multiplications, layer.dense / steps)
                sums[name] = [a + b for a, b in zip(sums.get(name, (0.0, 0.0, 0.0)), seen, strict=True)]
        rest(network)
    if not sums:
        raise ValueError(f"{type(network).__name__} has no convolutions or linear layers to count operations of")
    samples = sum(map(_samples, inputs))
    layers = (LayerEnergy(name, *(value / samples for value in values)) for name, values in sums.items())
    return EnergyReport(tuple(layers), updates / samples)


def _samples(batch: Tensor) -> int:
    return batch.shape[1 if batch.dim() == 5 else 0]


def _steps(layer: LayerOperations, samples: int, time_steps: int) -> float:
    """Return how often a layer saw each sample: once if it sees a constant image or a mean over time."""
    seen = 0
    for sizes, calls in layer.lead.items():
        rows = prod(sizes)
        if layer.tokens and sizes[:2] == (time_steps, samples):
            rows = time_steps * samples
        elif layer.tokens and sizes[:1] in ((samples,), (time_steps * samples,)):
            rows = sizes[0]
        seen += calls * rows
    return max(seen / samples, 1.0)


def _spikes(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _add(layer: LayerOperations, module: nn.Conv2d | nn.Linear, x: Tensor) -> None:
    spikes = _spikes(x)
    weight = module.weight
    if isinstance(module, nn.Linear):
        layer.tokens = True
        lead = tuple(x.shape[:-1])
        used = int(x.count_nonzero()) * module.out_features if spikes else 0
        dense = prod(lead) * weight.numel()
    else:
        lead = tuple(x.shape[: x.dim() - len(module.kernel_size) - 1])
        x = x.reshape(-1, *x.shape[len(lead) :]).float()
        # One kernel of ones a group: what reaches an output is the same for all outputs of a group.
        ones = weight.new_ones(module.groups, *weight.shape[1:], dtype=torch.float32)
        reached = module._conv_forward(x, ones, None)
        used = int(reached.double().sum()) * (module.out_channels // module.groups) if spikes else 0
        dense = prod(lead) * weight.numel() * prod(reached.shape[2:])
    layer.lead[lead] += 1
    layer.dense += dense
    layer.additions += used
    layer.multiplications += 0 if spikes else dense


class _Products(TorchFunctionMode):
    """Counts the matrix products of two activations in the modules that it is told of."""

    FUNCTIONS = frozenset({torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm})

    def __init__(self, layers: dict[str, LayerOperations]) -> None:
        super().__init__()
        self.layers = layers
        # Of each module that runs, the outer ones first, its name and how many products it has computed in this call.
        self.running: list[tuple[str, int]] = []

    def enter(self, name: str, module: nn.Module, args: Any) -> None:
        self.running.append((name, 0))

    def leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in self.FUNCTIONS and len(args) == 2 and min(x.dim() for x in args) > 1 and self.running:
            name, before = self.running.pop()
            self.running.append((name, before + 1))
            layer = self.layers.setdefault(f"{name} product {before + 1}".strip(), LayerOperations())
            with torch.no_grad():
                self._count(layer, args[0], args[1], out)
        return out

    def _count(self, layer: LayerOperations, x: Tensor, y: Tensor, out: Tensor) -> None:
        dense = out.numel() * x.shape[-1]
        first, second = _spikes(x), _spikes(y)
        if first and second:
            layer.additions += int(out.double().sum())
        elif first or second:
            # What a spike reaches: a row of the second matrix, or a column of the first.
            spikes, reached = (x, out.shape[-1]) if first else (y, out.shape[-2])
            layer.additions += int(spikes.count_nonzero()) * reached * (dense // (spikes.numel() * reached))
        else:
            layer.multiplications += dense
        layer.tokens = True
        layer.lead[tuple(out.shape[:-1])] += 1
        layer.dense += dense
