"""The ResNets of the paper's tables by name."""

from dataclasses import dataclass
from typing import TypedDict, Unpack

from .blocks import MakeNeuron
from .resnet import Readout, SpikingResNet
from .stems import StemKind


class NetOptions(TypedDict, total=False):
    """Keyword arguments of :class:`SpikingResNet` that every variant takes."""

    in_channels: int
    stem: StemKind
    make_neuron: MakeNeuron
    readout: Readout


class Options(NetOptions, total=False):
    """Keyword arguments of every variant; ``width`` is the first stage's channels."""

    width: int


@dataclass(frozen=True)
class _Shape:
    blocks: tuple[int, ...]
    width: int
    hidden: bool = False


VARIANTS = {
    "resnet18": _Shape((2, 2, 2, 2), 64),
    # Its 19th layer is a spiking fully connected one, twice as wide as the first stage.
    "resnet19": _Shape((3, 3, 2), 128, hidden=True),
    "resnet20": _Shape((3, 3, 3), 16),
    "resnet34": _Shape((3, 4, 6, 3), 64),
}


def build(
    name: str, num_classes: int, time_steps: int, width: int | None = None, **options: Unpack[NetOptions]
) -> SpikingResNet:
    """Build a network by name.

    Raises:
        ValueError: an unknown name (the message lists those there are) or a size below 1.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown network {name!r}: use one of {', '.join(VARIANTS)}")
    shape = VARIANTS[name]
    width = shape.width if width is None else width
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    widths = [width * 2**i for i in range(len(shape.blocks))]
    hidden = 2 * width if shape.hidden else 0
    return SpikingResNet(shape.blocks, widths, num_classes, time_steps, hidden=hidden, **options)


def spiking_resnet18(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-18: stages of 2, 2, 2, 2 blocks, 64 channels in the first, doubling."""
    return build("resnet18", num_classes, time_steps, **options)


def spiking_resnet19(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-19: stages of 3, 3, 2 blocks, 128 channels in the first, and a spiking hidden layer."""
    return build("resnet19", num_classes, time_steps, **options)


def spiking_resnet20(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-20: stages of 3, 3, 3 blocks, 16 channels in the first, doubling."""
    return build("resnet20", num_classes, time_steps, **options)


def spiking_resnet34(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-34: stages of 3, 4, 6, 3 blocks, 64 channels in the first, doubling."""
    return build("resnet34", num_classes, time_steps, **options)
