"""Stems: from an image or event frames to the first spikes."""

from typing import Literal, get_args

from torch import Tensor, nn

from ..neurons import NormNeuron
from .blocks import MakeNeuron
from .layers import SpikeMaxPool2d, over_time

StemKind = Literal["small", "large"]


class Stem(nn.Module):
    """Convolution, normalisation and neuron; a static image's convolution and normalisation run once.

    ``small``: 3x3, stride 1, no pooling (8x8 to 48x48 pixels; the paper's for CIFAR and CIFAR10-DVS).
    ``large``: 7x7, stride 2, then 3x3 max pooling, stride 2, of the spikes (224x224 pixels).
    """

    def __init__(self, kind: StemKind, inputs: int, outputs: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        if kind not in get_args(StemKind):
            raise ValueError(f"unknown stem {kind!r}: use one of {', '.join(get_args(StemKind))}")
        if kind == "small":
            self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
            self.pool: nn.Module = nn.Identity()
        else:
            self.conv = nn.Conv2d(inputs, outputs, 7, 2, 3, bias=False)
            self.pool = SpikeMaxPool2d(3, 2, 1)
        self.spike = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to spikes ``[T, N, outputs, ...]``."""
        spikes = self.spike(over_time(self.conv, x), time_steps=time_steps)
        return over_time(self.pool, spikes)
