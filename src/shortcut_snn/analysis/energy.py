"""Additions, multiplications and energy of an inference, counted from the spikes that flow.

A layer that is fed spikes adds a weight for every spike and every output that it reaches; one that is fed anything
else (an image, a current, the counts that SEW blocks pass on) multiplies and adds for every weight it uses. A matrix
product of two activations, as in attention, adds 1 wherever two spikes meet, or, where one side alone is spikes, a row
or column of the other for each of them. Normalisations are taken as folded into the layers before them. Not counted, as
is the custom: biases, pooling, residual sums, masks, and the neurons' own updates, of which the number is reported.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..inspection import hooked, preserving_state
from ..method import Shortcut
from ..method.attachment import describe
from ..method.libraries import libraries_of
from ..method.model import call_on, dry_copy
from ..method.probing import Run, primary
from ..method.taps import first_tensor
from ..nets.network import SpikingNetwork
from .probe import Reset, neurons

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
    uncounted: tuple[str, ...] = ()
    """Weights of modules that are not known, as of recurrent cells, or that were not called: left out of the energy."""

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

    layers = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, _KINDS)}
    calls = hooked(dict(nn.Module.named_modules(network)), products.leave, products.enter)
    with calls, hooked(layers, layer), hooked(neurons(network), update), products:
        yield found


_KINDS = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
# Looked up, not multiplied with; or folded into the layers before.
_FREE = (nn.Embedding, nn.EmbeddingBag, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def measure_energy(
    network: nn.Module, inputs: Sequence[Any], time_steps: int | None = None, *, reset: Reset | None = None
) -> EnergyReport:
    """Run inputs through a network in eval mode and return the energy of one of them; the network is left as it was.

    How a network of others is called, where samples lie in its input, and what puts it to rest is found as
    :func:`shortcut_snn.attach` does; each batch begins at rest. Weights that were not counted are named in a warning.

    Args:
        network: any with convolutions and linear layers; or a wrapper of :func:`shortcut_snn.attach`, which is how to
            say what cannot be found.
        inputs: batches as the network, or wrapper, takes them.
        time_steps: T; by default as found.
        reset: puts the neurons to rest; by default it is found.

    Raises:
        ValueError: no inputs, none of these layers, or something cannot be told about the network.

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
    inside = network.network if isinstance(network, Shortcut) else network
    if not any(primary(batch).numel() for batch in inputs):
        raise ValueError("give at least one input to count operations of")
    if not any(isinstance(module, _KINDS) for module in nn.Module.modules(inside)):
        raise ValueError(f"{type(inside).__name__} has no convolutions or linear layers to count operations of")
    way = _way(network, inputs[0], time_steps, reset)
    twin = way.copied(inside)
    samples = sum(way.samples(batch) for batch in inputs)
    sums: dict[str, list[float]] = {}
    updates = 0
    with preserving_state(twin, training=False), torch.no_grad():
        for batch in inputs:
            way.rest(twin)
            with count_operations(twin) as found:
                call_on(twin, way.run, batch)
            updates += found.updates
            for name, layer in found.layers.items():
                steps = _steps(layer, way.samples(batch), way.lead(batch))
                seen = (layer.additions, layer.multiplications, layer.dense / steps)
                sums[name] = [a + b for a, b in zip(sums.get(name, (0.0, 0.0, 0.0)), seen, strict=True)]
    uncounted = _uncounted(inside, sums)
    if uncounted:
        warnings.warn(
            f"not counted in the energy of {type(inside).__name__}: {', '.join(uncounted)}, weights of modules that "
            "are not known, or were not called",
            stacklevel=2,
        )
    layers = (LayerEnergy(name, *(value / samples for value in values)) for name, values in sums.items())
    return EnergyReport(tuple(layers), updates / samples, uncounted)


@dataclass(frozen=True)
class _Way:
    """How batches are sent through a network."""

    run: Run | None
    reset: Reset | None
    batch_axis: int | None
    time_steps: int
    stateful: bool

    def copied(self, network: nn.Module) -> nn.Module:
        """A copy that shares nothing which a pass may change; ours keep nothing."""
        return dry_copy(network, self.reset) if self.stateful else network

    def rest(self, network: nn.Module) -> None:
        if self.reset is not None:
            self.reset(network)

    def samples(self, batch: Any) -> int:
        shape = primary(batch).shape
        axis = (1 if len(shape) == 5 else 0) if self.batch_axis is None else self.batch_axis
        return int(shape[axis])

    def lead(self, batch: Any) -> tuple[int, int]:
        """The first two axes of a layer that is given all time steps of a batch."""
        shape, samples = primary(batch).shape, self.samples(batch)
        first = self.batch_axis == 0 and len(shape) in (3, 5) and shape[1] == self.time_steps
        return (samples, self.time_steps) if first else (self.time_steps, samples)


def _way(network: nn.Module, example: Any, time_steps: int | None, reset: Reset | None) -> _Way:
    inside = network.network if isinstance(network, Shortcut) else network
    if isinstance(inside, SpikingNetwork) and not libraries_of(inside):
        return _Way(None, reset, None, time_steps or inside.time_steps, reset is not None)
    if isinstance(network, Shortcut):
        known = network.description
        steps = time_steps or (known.time_steps if known else None) or 1
        axis = known.batch_axis if known else None
        return _Way(network.run, reset or network._reset, axis, steps, True)
    try:
        try:
            found = describe(network, example, reset=reset or "auto")
        except ValueError:
            if time_steps != 1:
                raise
            found = describe(network, example, loop="network", reset=reset or "auto")
    except ValueError as error:
        raise ValueError(f"{error} (an argument of attach: what it returns can be measured as well)") from error
    return _Way(found.run, found.reset, found.batch_axis, time_steps or found.time_steps or 1, True)


def _uncounted(network: nn.Module, counted: Iterable[str]) -> tuple[str, ...]:
    """Parameters of two axes and more that belong to no layer that was counted."""
    inside = tuple(f"{name}." for name in counted)
    found = []
    for name, module in nn.Module.named_modules(network):
        if isinstance(module, _FREE) or f"{name}.".startswith(inside) or (inside == (".",) and not name):
            continue
        for own, weight in module._parameters.items():
            if weight is not None and sum(size > 1 for size in weight.shape) > 1:
                found.append(f"{name}.{own}".lstrip("."))
    return tuple(found)


def _steps(layer: LayerOperations, samples: int, first: tuple[int, int]) -> float:
    """Return how often a layer saw each sample: once if it sees a constant image or a mean over time."""
    seen = 0
    for sizes, calls in layer.lead.items():
        rows = prod(sizes)
        if layer.tokens and sizes[:2] == first:
            rows = prod(first)
        elif layer.tokens and sizes[:1] in ((samples,), (prod(first),)):
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
