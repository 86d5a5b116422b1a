"""Spiking ResNets (paper, experiments) over static images or event frames."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..neurons import LIF, NormNeuron
from .blocks import BasicBlock, MakeNeuron
from .layers import over_time
from .stems import Stem, StemKind

Readout = Literal["mean", "sequence"]


class SpikingResNet(nn.Module):
    """A ResNet of spiking blocks: stem, stages ``layer1``, ``layer2``, ..., mean over space, linear readout.

    Args:
        blocks: blocks of each stage.
        widths: channels of each stage; the stem has the first.
        num_classes: width of the logits.
        time_steps: T.
        in_channels: 3 for colour, 1 for grey, 2 for event frames (polarities).
        stem: ``"small"`` (3x3, stride 1) or ``"large"`` (7x7, stride 2 and pooling).
        make_neuron: makes each layer's neuron; the paper's LIF by default.
        readout: ``"mean"`` averages over time before the linear layer and gives ``[N, num_classes]``;
            ``"sequence"`` gives the logits of every step, ``[T, N, num_classes]``.
        hidden: width of a spiking fully connected layer before the last, or 0 for none.

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        time_steps: int,
        *,
        in_channels: int = 3,
        stem: StemKind = "small",
        make_neuron: MakeNeuron = LIF,
        readout: Readout = "mean",
        hidden: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"num_classes": num_classes, "time_steps": time_steps, "in_channels": in_channels}
        sizes |= {f"widths[{i}]": width for i, width in enumerate(widths)}
        sizes |= {f"blocks[{i}]": depth for i, depth in enumerate(blocks)}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if hidden < 0:
            raise ValueError(f"hidden must be at least 0, got {hidden}")
        if len(blocks) != len(widths) or not blocks:
            raise ValueError(f"as many blocks as widths are needed, got {list(blocks)} and {list(widths)}")
        if readout not in get_args(Readout):
            raise ValueError(f"readout must be one of {', '.join(get_args(Readout))}, got {readout!r}")
        self.num_classes, self.time_steps, self.in_channels = num_classes, time_steps, in_channels
        self.readout = readout
        self.stem = Stem(stem, in_channels, widths[0], make_neuron)
        self.stage_names = [f"layer{i + 1}" for i in range(len(blocks))]
        inputs = widths[0]
        for i, (name, depth, width) in enumerate(zip(self.stage_names, blocks, widths, strict=True)):
            stage = nn.Sequential()
            for b in range(depth):
                stage.append(BasicBlock(inputs, width, 2 if i and not b else 1, make_neuron))
                inputs = width
            self.add_module(name, stage)
        self.hidden: nn.Module | None = None
        if hidden:
            self.hidden = nn.Linear(inputs, hidden, bias=False)
            self.hidden_spike = NormNeuron(nn.BatchNorm1d(hidden), make_neuron())
            inputs = hidden
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def example_input(self) -> Tensor:
        """Return a batch of two small blank images, on the network's device, for a dry pass."""
        weight = self.classifier.weight
        return torch.zeros(2, self.in_channels, 32, 32, device=weight.device, dtype=weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, num_classes]`` (``[T, N, num_classes]`` with readout ``"sequence"``).

        Args:
            x: static images ``[N, C, H, W]``, a constant current at every time step, or frames
                ``[T, N, C, H, W]``.

        Raises:
            ValueError: another number of axes, channels or time steps than the network was built for.
        """
        spikes = self.stem(self._sequence(x), self.time_steps)
        for name in self.stage_names:
            spikes = self.get_submodule(name)(spikes)
        features = spikes.mean((-2, -1))
        if self.hidden is not None:
            features = self.hidden_spike(over_time(self.hidden, features))
        if self.readout == "mean":
            features = features.mean(0)
        logits: Tensor = self.classifier(features)
        return logits

    def _sequence(self, x: Tensor) -> Tensor:
        if x.dim() not in (4, 5):
            raise ValueError(f"expected images [N, C, H, W] or frames [T, N, C, H, W], got shape {tuple(x.shape)}")
        if x.shape[-3] != self.in_channels:
            raise ValueError(f"the network takes {self.in_channels} channels, got {x.shape[-3]} in {tuple(x.shape)}")
        if x.dim() == 4:
            return x.unsqueeze(0)
        if x.shape[0] != self.time_steps:
            raise ValueError(
                f"the network runs {self.time_steps} time steps, got {x.shape[0]} frames in {tuple(x.shape)}"
            )
        return x
