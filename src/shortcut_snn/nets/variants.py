"""Networks by name: a network is a row of a table."""

from dataclasses import dataclass
from typing import TypedDict, Unpack

from ..neurons import LIF
from .block_kinds import Block
from .blocks import MakeNeuron
from .network import Readout, SpikingNetwork, check_sizes
from .norms import Norm
from .resnet import SpikingResNet
from .stems import StemKind
from .vgg import Pooling, SpikingVGG


class NetOptions(TypedDict, total=False):
    """Keyword arguments that every network by name takes."""

    in_channels: int
    stem: StemKind
    make_neuron: MakeNeuron
    readout: Readout
    block: Block
    norm: Norm


class Options(NetOptions, total=False):
    """Keyword arguments of the functions; ``width`` is the first stage's channels."""

    width: int


@dataclass(frozen=True)
class ResNetShape:
    """Blocks of each stage; each stage is twice as wide as the one before."""

    blocks: tuple[int, ...]
    width: int
    hidden: bool = False
    """Whether it has a spiking fully connected layer, twice as wide as the first stage."""

    def build(
        self, num_classes: int, time_steps: int, width: int | None = None, **options: Unpack[NetOptions]
    ) -> SpikingResNet:
        """Build it, at another width than its own if one is given."""
        width = _width(width, self.width)
        widths = [width * 2**i for i in range(len(self.blocks))]
        hidden = 2 * width if self.hidden else 0
        return SpikingResNet(self.blocks, widths, num_classes, time_steps, hidden=hidden, **options)


@dataclass(frozen=True)
class VGGShape:
    """Layers of each stage, as multiples of the first one's width."""

    layers: tuple[tuple[int, ...], ...]
    width: int = 64
    pooling: Pooling = "max"

    def build(
        self, num_classes: int, time_steps: int, width: int | None = None, **options: Unpack[NetOptions]
    ) -> SpikingVGG:
        """Build it, at another width than its own if one is given.

        Raises:
            ValueError: options that only ResNets have.
        """
        if options.get("block", "basic") != "basic":
            raise ValueError(f"a VGG has no residual blocks, so block must be left at basic, got {options['block']!r}")
        if options.get("stem", "small") != "small":
            raise ValueError(f"a VGG has no stem of its own, so stem must be left at small, got {options['stem']!r}")
        width = _width(width, self.width)
        return SpikingVGG(
            [[width * multiple for multiple in stage] for stage in self.layers],
            num_classes,
            time_steps,
            pooling=self.pooling,
            in_channels=options.get("in_channels", 3),
            make_neuron=options.get("make_neuron", LIF),
            readout=options.get("readout", "mean"),
            norm=options.get("norm", "bn"),
        )


RESNETS = {
    "resnet18": ResNetShape((2, 2, 2, 2), 64),
    "resnet19": ResNetShape((3, 3, 2), 128, hidden=True),
    "resnet20": ResNetShape((3, 3, 3), 16),
    "resnet34": ResNetShape((3, 4, 6, 3), 64),
    "resnet110": ResNetShape((18, 18, 18), 16),
}
VGGS = {
    "vgg11": VGGShape(((1,), (2,), (4, 4), (8, 8), (8, 8))),
    "vgg16": VGGShape(((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))),
    "vggsnn": VGGShape(((1, 2), (4, 4), (8, 8), (8, 8)), pooling="average"),
}
VARIANTS: dict[str, ResNetShape | VGGShape] = {**RESNETS, **VGGS}


def _width(given: int | None, own: int) -> int:
    width = own if given is None else given
    check_sizes(width=width)
    return width


def build(
    name: str, num_classes: int, time_steps: int, width: int | None = None, **options: Unpack[NetOptions]
) -> SpikingNetwork:
    """Build a network by name.

    Raises:
        ValueError: an unknown name (the message lists those there are), a size below 1, or an option that the network
            does not have.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown network {name!r}: use one of {', '.join(VARIANTS)}")
    return VARIANTS[name].build(num_classes, time_steps, width, **options)


def spiking_resnet18(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-18: stages of 2, 2, 2, 2 blocks, 64 channels in the first, doubling."""
    return RESNETS["resnet18"].build(num_classes, time_steps, **options)


def spiking_resnet19(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-19: stages of 3, 3, 2 blocks, 128 channels in the first, and a spiking hidden layer."""
    return RESNETS["resnet19"].build(num_classes, time_steps, **options)


def spiking_resnet20(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-20: stages of 3, 3, 3 blocks, 16 channels in the first, doubling."""
    return RESNETS["resnet20"].build(num_classes, time_steps, **options)


def spiking_resnet34(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-34: stages of 3, 4, 6, 3 blocks, 64 channels in the first, doubling."""
    return RESNETS["resnet34"].build(num_classes, time_steps, **options)


def spiking_resnet110(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingResNet:
    """ResNet-110: stages of 18, 18, 18 blocks, 16 channels in the first, doubling (He et al., CVPR 2016)."""
    return RESNETS["resnet110"].build(num_classes, time_steps, **options)


def spiking_vgg11(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingVGG:
    """VGG-11: stages of 1, 1, 2, 2, 2 layers, 64 channels in the first, doubling up to 512; max pooling."""
    return VGGS["vgg11"].build(num_classes, time_steps, **options)


def spiking_vgg16(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingVGG:
    """VGG-16: stages of 2, 2, 3, 3, 3 layers, 64 channels in the first, doubling up to 512; max pooling."""
    return VGGS["vgg16"].build(num_classes, time_steps, **options)


def spiking_vggsnn(num_classes: int, time_steps: int, **options: Unpack[Options]) -> SpikingVGG:
    """VGGSNN: stages of 2, 2, 2, 2 layers, 64 and 128 channels in the first, up to 512; average pooling."""
    return VGGS["vggsnn"].build(num_classes, time_steps, **options)
