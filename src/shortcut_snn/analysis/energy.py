"""Additions, multiplications and energy of an inference, counted from the spikes that flow.

A layer that is fed spikes adds a weight for every spike and every output that it reaches; one that is fed anything
else (an image, a current, the counts that SEW blocks pass on) multiplies and adds for every weight it uses.
Normalisations are taken as folded into the layers before them. Not counted, as is the custom: biases, pooling, residual
sums, and the neurons' own updates, of which the number is reported.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from .probe import neurons

# Picojoules in 45 nm, 32-bit floating point: M. Horowitz, "Computing's energy problem (and what we can do about it)",
# ISSCC 2014: 3.7 for a multiplication and 0.9 for an addition.
MULTIPLY_ACCUMULATE = 4.6
ADDITION = 0.9


@dataclass
class LayerOperations:
    """What one convolution or linear layer does, summed over all inputs."""

    additions: int = 0
    """Weights added for a spike."""
    multiplications: int = 0
    """Weights multiplied and accumulated."""
    dense: int = 0
    """Multiplications if every input were a number, padding included."""
    rows: int = 0
    """Images times time steps that it saw."""


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
    """Count what a network does in the passes of a block."""
    found = Operations()

    def layer(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            with torch.no_grad():
                _add(found.layers.setdefault(name, LayerOperations()), module, args[0].detach())

        return hook

    def update(module: nn.Module, args: Any, output: Any) -> None:
        found.updates += (output if isinstance(output, Tensor) else output[0]).numel()

    handles = [
        module.register_forward_hook(layer(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    ]
    handles += [neuron.register_forward_hook(update) for neuron in neurons(network).values()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def measure_energy(network: nn.Module, inputs: Sequence[Tensor], time_steps: int) -> EnergyReport:
    """Run inputs through a network in eval mode and return the energy of one of them.

    Args:
        network: any with convolutions and linear layers.
        inputs: batches of images ``[N, C, H, W]`` or of frames ``[T, N, C, H, W]``.
        time_steps: T.

    Raises:
        ValueError: no inputs, or none of these layers.
    """
    samples = sum(batch.shape[1 if batch.dim() == 5 else 0] for batch in inputs)
    if not samples:
        raise ValueError("give at least one input to count operations of")
    training = network.training
    with count_operations(network) as found, torch.no_grad():
        network.eval()
        for batch in inputs:
            network(batch)
    network.train(training)
    if not found.layers:
        raise ValueError(f"{type(network).__name__} has no convolutions or linear layers to count operations of")
    return EnergyReport(
        tuple(_per_input(name, layer, samples, time_steps) for name, layer in found.layers.items()),
        found.updates / samples,
    )


def _per_input(name: str, layer: LayerOperations, samples: int, time_steps: int) -> LayerEnergy:
    # A layer that sees a constant image, or the mean over time, runs once; the others at every step.
    steps = time_steps if layer.rows % (samples * time_steps) == 0 else 1
    sums = (layer.additions, layer.multiplications, layer.dense / steps)
    return LayerEnergy(name, *(value / samples for value in sums))


def _add(layer: LayerOperations, module: nn.Conv2d | nn.Linear, x: Tensor) -> None:
    spikes = bool(((x == 0) | (x == 1)).all())
    weight = module.weight
    if isinstance(module, nn.Linear):
        rows = x.numel() // module.in_features
        used = int(x.count_nonzero()) * module.out_features if spikes else 0
        dense = rows * weight.numel()
    else:
        x = x.flatten(0, x.dim() - len(module.kernel_size) - 2).float()
        rows = x.shape[0]
        # One kernel of ones a group: what reaches an output is the same for all outputs of a group.
        ones = weight.new_ones(module.groups, *weight.shape[1:], dtype=torch.float32)
        reached = module._conv_forward(x, ones, None)
        used = int(reached.double().sum()) * (module.out_channels // module.groups) if spikes else 0
        dense = rows * weight.numel() * prod(reached.shape[2:])
    layer.rows += rows
    layer.dense += dense
    layer.additions += used
    layer.multiplications += 0 if spikes else dense
