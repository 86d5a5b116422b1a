"""Spiking VGGs: networks without skip connections."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from .. import components
from ..neurons import LIF, NormNeuron
from .blocks import MakeNeuron
from .layers import SpikeMaxPool2d, conv3x3, over_time
from .network import ClassifierStd, Count, Readout, SpikingNetwork, check_sizes
from .norms import Norm

Pooling = Literal["max", "average"]


class ConvSpike(nn.Module):
    """Pooling (``nn.Identity`` inside a stage), 3x3 convolution, normalisation and neuron."""

    def __init__(self, pool: nn.Module, inputs: int, outputs: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.pool = pool
        self.conv = conv3x3(inputs, outputs)
        self.spike = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor, time_steps: int | None = None) -> Tensor:
        """Map ``[T, N, inputs, H, W]`` to spikes ``[T, N, outputs, H, W]``; a pooling halves H and W.

        Args:
            x: spikes or frames, or ``[1, N, C, H, W]`` with ``time_steps``: a constant current.
            time_steps: T of a constant current.
        """
        spikes: Tensor = self.spike(over_time(self.conv, over_time(self.pool, x)), time_steps=time_steps)
        return spikes


class VGGStage(nn.Sequential):
    """The layers of a stage, between two poolings."""

    def forward(self, x: Tensor, time_steps: int | None = None) -> Tensor:
        """Map ``[T, N, C, H, W]`` (or a constant current, see :class:`ConvSpike`) to the last layer's spikes."""
        for layer in self:
            x, time_steps = layer(x, time_steps), None
        return x


class SpikingVGG(SpikingNetwork):
    """A VGG: stages ``stage1``, ``stage2``, ... with a pooling between two, mean over space, linear readout.

    Images may have any size, because space is averaged before the classifier. The originals pool there instead: the
    VGGs of Simonyan & Zisserman (ICLR 2015) end in three fully connected layers, and the readout of VGGSNN (Deng et
    al., "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting", ICLR 2022) takes all pixels.
    The convolutions of VGGSNN also have biases.

    The output of a stage is its spikes, before they are pooled.

    Args:
        widths: channels of each layer of each stage.
        num_classes: width of the logits.
        time_steps: number of time steps T.
        pooling: ``"max"``, whose outputs are spikes, or ``"average"``; both 2x2.
        in_channels: 3 for colour, 1 for grey, 2 for event frames (polarities).
        make_neuron: creates each layer's neuron; the paper's LIF by default.
        readout: ``"mean"`` averages over time before the linear layer and returns ``[N, num_classes]``;
            ``"sequence"`` returns the logits of every step, ``[T, N, num_classes]``.
        norm: ``"bn"`` or ``"tdbn"``, batch normalisation that starts at the threshold.
        classifier_std: standard deviation of the classifier's initial weights, with biases of 0: a number, or
            ``"1/inputs"`` for one over its inputs. None for torch's initialisation.

    Raises:
        ValueError: a size is not positive, or an option is unknown.

    Example:
        >>> import torch
        >>> network = SpikingVGG([[4], [8, 8]], num_classes=10, time_steps=4)
        >>> network(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]],
        num_classes: int,
        time_steps: int,
        *,
        pooling: Pooling = "max",
        in_channels: int = 3,
        make_neuron: MakeNeuron = LIF,
        readout: Readout = "mean",
        norm: Norm = "bn",
        classifier_std: ClassifierStd = None,
    ) -> None:
        super().__init__(num_classes, time_steps, in_channels, readout)
        if pooling not in get_args(Pooling):
            raise ValueError(f"unknown pooling {pooling!r}: use one of {', '.join(get_args(Pooling))}")
        if not widths or not all(widths):
            raise ValueError(f"every stage needs a layer, got widths {[list(stage) for stage in widths]}")
        check_sizes(**{f"widths[{i}][{j}]": w for i, stage in enumerate(widths) for j, w in enumerate(stage)})
        self.stage_names = [f"stage{i + 1}" for i in range(len(widths))]
        inputs = in_channels
        for i, (name, stage_widths) in enumerate(zip(self.stage_names, widths, strict=True)):
            stage = VGGStage()
            for j, width in enumerate(stage_widths):
                pool = _pool(pooling) if i and not j else nn.Identity()
                stage.append(ConvSpike(pool, inputs, width, make_neuron))
                inputs = width
            self.add_module(name, stage)
        self.classifier = nn.Linear(inputs, num_classes)
        self._initialise(norm, classifier_std)

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to averaged spikes ``[T, N, F]``."""
        time_steps: int | None = self.time_steps
        for name in self.stage_names:
            x, time_steps = self.get_submodule(name)(x, time_steps), None
        return x.mean((-2, -1))


def _pool(pooling: Pooling) -> nn.Module:
    # Sizes are rounded up, so that an image too small for all poolings ends with one pixel.
    return SpikeMaxPool2d(2, ceil_mode=True) if pooling == "max" else nn.AvgPool2d(2, ceil_mode=True)


@components.network("vgg11")
def spiking_vgg11(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 64,
    in_channels: Count = 3,
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingVGG:
    """VGG-11: stages of 1, 1, 2, 2, 2 layers, doubling in width up to 8 times; max pooling; options of SpikingVGG.

    Args:
        width: channels of the first layer.

    Example:
        >>> import torch
        >>> spiking_vgg11(num_classes=10, width=4)(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    return SpikingVGG(
        _widths(width, ((1,), (2,), (4, 4), (8, 8), (8, 8))),
        num_classes,
        time_steps,
        in_channels=in_channels,
        make_neuron=make_neuron,
        readout=readout,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("vgg16")
def spiking_vgg16(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 64,
    in_channels: Count = 3,
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingVGG:
    """VGG-16: stages of 2, 2, 3, 3, 3 layers, doubling in width up to 8 times; max pooling; options of SpikingVGG.

    Args:
        width: channels of the first layer.

    Example:
        >>> import torch
        >>> spiking_vgg16(num_classes=10, width=4)(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    return SpikingVGG(
        _widths(width, ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))),
        num_classes,
        time_steps,
        in_channels=in_channels,
        make_neuron=make_neuron,
        readout=readout,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("vggsnn")
def spiking_vggsnn(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 64,
    in_channels: Count = 3,
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingVGG:
    """VGGSNN: four stages of 2 layers, doubling in width up to 8 times; average pooling; options of SpikingVGG.

    Args:
        width: channels of the first layer.

    Example:
        >>> import torch
        >>> spiking_vggsnn(num_classes=10, width=4)(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    return SpikingVGG(
        _widths(width, ((1, 2), (4, 4), (8, 8), (8, 8))),
        num_classes,
        time_steps,
        pooling="average",
        in_channels=in_channels,
        make_neuron=make_neuron,
        readout=readout,
        norm=norm,
        classifier_std=classifier_std,
    )


def _widths(first: int, multiples: Sequence[Sequence[int]]) -> list[list[int]]:
    check_sizes(width=first)
    return [[first * multiple for multiple in stage] for stage in multiples]
