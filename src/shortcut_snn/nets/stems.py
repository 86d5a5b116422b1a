"""Stems: the first layers, from an image or event frames to spikes or currents."""

from typing import Literal

from torch import Tensor, nn

from ..neurons import NormNeuron
from .blocks import MakeNeuron
from .layers import SpikeMaxPool2d, over_time
from .options import check_choice
from .roles import NeuronRole, Roles, after

StemKind = Literal["small", "large"]


def _entry(kind: StemKind, inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.Module]:
    """Return the convolution and the pooling of a kind of stem."""
    check_choice("stem", kind, StemKind)
    if kind == "small":
        return nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.Identity()
    return nn.Conv2d(inputs, outputs, 7, 2, 3, bias=False), SpikeMaxPool2d(3, 2, 1)


def make_stem(
    kind: StemKind, inputs: int, outputs: int, make_neuron: MakeNeuron, carries_spikes: bool
) -> "Stem | MembraneStem":
    """Return a stem whose output is what blocks take: spikes or currents."""
    return Stem(kind, inputs, outputs, make_neuron) if carries_spikes else MembraneStem(kind, inputs, outputs)


class Stem(nn.Module):
    """Convolution, normalisation and neuron; for a static image, convolution and normalisation run once.

    ``small``: 3x3, stride 1, no pooling (8x8 to 48x48 pixels; the paper's for CIFAR and CIFAR10-DVS).
    ``large``: 7x7, stride 2, then 3x3 max pooling, stride 2, of the spikes (224x224 pixels).

    Raises:
        ValueError: an unknown kind.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> Stem("large", 3, 8, LIF)(torch.rand(1, 2, 3, 64, 64), time_steps=4).shape
        torch.Size([4, 2, 8, 16, 16])
    """

    def __init__(self, kind: StemKind, inputs: int, outputs: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv, self.pool = _entry(kind, inputs, outputs)
        self.spike = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to spikes ``[T, N, outputs, ...]``."""
        spikes = self.spike(over_time(self.conv, x), time_steps=time_steps)
        return over_time(self.pool, spikes)

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        return after("first", "conv", "spike")


class MembraneStem(nn.Module):
    """A stem without a neuron, for blocks that start with one; for a static image it runs once.

    ``large`` pools the currents; the authors of MS-ResNet use a stride of 2 in the first block instead.
    """

    def __init__(self, kind: StemKind, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, pool = _entry(kind, inputs, outputs)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to currents ``[T, N, outputs, ...]``."""
        current = over_time(lambda flat: self.pool(self.norm(self.conv(flat))), x)
        return current.expand(time_steps, *current.shape[1:])

    def roles(self) -> Roles:
        """Return the role of the neuron after it (see :mod:`.roles`)."""
        return {"": NeuronRole("first", "conv", "norm")}
