"""The paper's network for libraries that bring layers but not this block: a kit of their layers fills it in.

Its state keys are those of ``shortcut_snn.nets``, so that weights are copied by ``load_state_dict``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


@dataclass(frozen=True)
class Kit:
    """The layers of a library.

    Args:
        conv: ``(inputs, outputs, kernel, stride, padding)`` to a convolution without bias.
        norm: ``(channels)`` to a batch normalisation.
        neuron: ``()`` to a spiking neuron.
        reset: sets all neurons of a network to membrane potential 0.
    """

    conv: Callable[[int, int, int, int, int], nn.Module]
    norm: Callable[[int], nn.Module]
    neuron: Callable[[], nn.Module]
    reset: Callable[[nn.Module], None]


class Spike(nn.Module):
    """``neuron(norm(x) + residual)``; with ``repeat``, a constant current is fed that many times."""

    def __init__(self, kit: Kit, channels: int) -> None:
        super().__init__()
        self.norm = kit.norm(channels)
        self.neuron = kit.neuron()

    def forward(self, x: Tensor, residual: Tensor | None = None, repeat: int | None = None) -> Tensor:
        current = self.norm(x)
        if repeat is not None:
            current = current.expand(repeat, *current.shape[1:])
        spikes: Tensor = self.neuron(current if residual is None else current + residual)
        return spikes


class Projection(nn.Module):
    def __init__(self, kit: Kit, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = kit.conv(inputs, outputs, 1, stride, 0)
        self.norm = kit.norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.norm(self.conv(x))
        return projected


class Block(nn.Module):
    """``spike(bn(conv(h)) + x)`` with ``h = spike(bn(conv(x)))``."""

    def __init__(self, kit: Kit, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = kit.conv(inputs, outputs, 3, stride, 1)
        self.spike1 = Spike(kit, outputs)
        self.conv2 = kit.conv(outputs, outputs, 3, 1, 1)
        self.spike2 = Spike(kit, outputs)
        same = stride == 1 and inputs == outputs
        self.project = nn.Identity() if same else Projection(kit, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.spike1(self.conv1(x))
        spikes: Tensor = self.spike2(self.conv2(hidden), self.project(x))
        return spikes


class Stem(nn.Module):
    def __init__(self, kit: Kit, width: int) -> None:
        super().__init__()
        self.conv = kit.conv(3, width, 3, 1, 1)
        self.spike = Spike(kit, width)

    def forward(self, x: Tensor, repeat: int | None) -> Tensor:
        spikes: Tensor = self.spike(self.conv(x), repeat=repeat)
        return spikes


class SequenceNetwork(nn.Module):
    """Each layer sees the whole sequence ``[T, N, C, H, W]``; the stem's convolution runs once."""

    def __init__(self, kit: Kit, network: str, width: int, classes: int, time_steps: int) -> None:
        super().__init__()
        self.kit, self.time_steps = kit, time_steps
        self.stem = Stem(kit, width)
        self.stages = [f"layer{i + 1}" for i in range(len(BLOCKS[network]))]
        inputs = width
        for i, (name, depth) in enumerate(zip(self.stages, BLOCKS[network], strict=True)):
            stage = nn.Sequential()
            for b in range(depth):
                stage.append(Block(kit, inputs, width * 2**i, 2 if i and not b else 1))
                inputs = width * 2**i
            self.add_module(name, stage)
        self.classifier = nn.Linear(inputs, classes)

    def features(self, x: Tensor, repeat: int | None) -> Tensor:
        """Firing rates of the last layer over space, ``[..., N, channels]``."""
        spikes = self.stem(x, repeat)
        for name in self.stages:
            spikes = self.get_submodule(name)(spikes)
        rates: Tensor = spikes.mean((-2, -1))
        return rates

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        self.kit.reset(self)
        features = self.features(x.unsqueeze(0), self.time_steps)
        logits: Tensor = self.classifier(features.mean(0))
        return logits


class LoopNetwork(SequenceNetwork):
    """The whole network runs once per time step, so batch statistics are those of one step."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        self.kit.reset(self)
        features = torch.stack([self.features(x, None) for _ in range(self.time_steps)])
        logits: Tensor = self.classifier(features.mean(0))
        return logits


class LinearNeuron(nn.Module):
    """The part ``"neuron"``: a linear layer over ``[T, N, n]`` at once, then a neuron.

    Args:
        linear: the layer.
        neuron: maps a sequence to spikes.
        reset: sets the neuron to membrane potential 0.
    """

    def __init__(self, linear: nn.Linear, neuron: nn.Module, reset: Callable[[nn.Module], None] | None = None) -> None:
        super().__init__()
        self.linear, self.neuron, self.reset = linear, neuron, reset

    def forward(self, x: Tensor) -> Tensor:
        if self.reset is not None:
            self.reset(self.neuron)
        spikes: Tensor = self.neuron(self.linear(x))
        return spikes
