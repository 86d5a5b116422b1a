"""Spiking ResNets for static images or event frames, as in the paper's experiments."""

from collections.abc import Sequence

from torch import Tensor, nn

from .. import components
from ..neurons import LIF, Neuron, NormNeuron
from .blocks import Block, MakeNeuron, block_kind
from .layers import over_time
from .network import ClassifierStd, Count, Readout, SpikingNetwork, check_sizes
from .norms import Norm
from .stems import MembraneStem, Stem, StemKind


class SpikingResNet(SpikingNetwork):
    """A ResNet of spiking blocks: stem, stages ``layer1``, ``layer2``, ..., mean over space, linear readout.

    Args:
        blocks: blocks of each stage.
        widths: channels of each stage; the stem has the first.
        num_classes: width of the logits.
        time_steps: number of time steps T.
        in_channels: 3 for colour, 1 for grey, 2 for event frames (polarities).
        stem: ``"small"`` (3x3, stride 1) or ``"large"`` (7x7, stride 2 and pooling).
        make_neuron: creates each layer's neuron; the paper's LIF by default.
        readout: ``"mean"`` averages over time before the linear layer and returns ``[N, num_classes]``;
            ``"sequence"`` returns the logits of every step, ``[T, N, num_classes]``.
        hidden: width of a spiking fully connected layer before the classifier, or 0 for none.
        block: ``"basic"`` (the paper's ``spike(f(x) + x)``), ``"sew"`` (``spike(f(x)) + x``), ``"ms"``
            (``f(spike(x)) + x``), or ``"plain"`` (``spike(f(x))``, no skip connection). A stage outputs spikes, small
            integers or currents, and a branch after it averages these.
        norm: ``"bn"`` or ``"tdbn"``, batch normalisation that starts at the threshold.
        classifier_std: standard deviation of the classifier's initial weights, with biases of 0: a number, or
            ``"1/inputs"`` for one over its inputs. None for torch's initialisation.

    Raises:
        ValueError: a size is not positive, or an option is unknown.

    Example:
        >>> import torch
        >>> network = SpikingResNet([1, 1], [4, 8], num_classes=10, time_steps=4)
        >>> network(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
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
        block: Block = "basic",
        norm: Norm = "bn",
        classifier_std: ClassifierStd = None,
    ) -> None:
        super().__init__(num_classes, time_steps, in_channels, readout)
        check_sizes(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_sizes(**{f"blocks[{i}]": depth for i, depth in enumerate(blocks)})
        if hidden < 0:
            raise ValueError(f"hidden must be at least 0, got {hidden}")
        if len(blocks) != len(widths) or not blocks:
            raise ValueError(f"blocks and widths must have equal lengths, got {list(blocks)} and {list(widths)}")
        kind = block_kind(block)
        self.stem = (
            Stem(stem, in_channels, widths[0], make_neuron)
            if kind.carries_spikes
            else MembraneStem(stem, in_channels, widths[0])
        )
        self.stage_names = [f"layer{i + 1}" for i in range(len(blocks))]
        inputs = widths[0]
        for i, (name, depth, width) in enumerate(zip(self.stage_names, blocks, widths, strict=True)):
            stage = nn.Sequential()
            for b in range(depth):
                stage.append(kind(inputs, width, 2 if i and not b else 1, make_neuron))
                inputs = width
            self.add_module(name, stage)
        self.last_spike: Neuron | None = None if kind.carries_spikes else make_neuron()
        self.hidden: nn.Module | None = None
        if hidden:
            self.hidden = nn.Linear(inputs, hidden, bias=False)
            self.hidden_spike = NormNeuron(nn.BatchNorm1d(hidden), make_neuron())
            inputs = hidden
        self.classifier = nn.Linear(inputs, num_classes)
        self._initialise(norm, classifier_std, kind.summed)

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to averaged spikes ``[T, N, F]``."""
        x = self.stem(x, self.time_steps)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        if self.last_spike is not None:
            x = self.last_spike(x)
        features = x.mean((-2, -1))
        if self.hidden is not None:
            features = self.hidden_spike(over_time(self.hidden, features))
        return features


@components.network("resnet8")
def spiking_resnet8(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 16,
    in_channels: Count = 3,
    stem: StemKind = "small",
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    block: Block = "basic",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingResNet:
    """ResNet-8: stages of one block each, doubling in width (MLPerf Tiny's for images); options of SpikingResNet.

    Args:
        width: channels of the first stage.

    Example:
        >>> import torch
        >>> spiking_resnet8(num_classes=10, width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    return SpikingResNet(
        (1, 1, 1),
        _widths(width, 3),
        num_classes,
        time_steps,
        in_channels=in_channels,
        stem=stem,
        make_neuron=make_neuron,
        readout=readout,
        block=block,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("resnet18")
def spiking_resnet18(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 64,
    in_channels: Count = 3,
    stem: StemKind = "small",
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    block: Block = "basic",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingResNet:
    """ResNet-18: stages of 2, 2, 2, 2 blocks, doubling in width; options of SpikingResNet.

    Args:
        width: channels of the first stage.

    Example:
        >>> import torch
        >>> spiking_resnet18(num_classes=10, width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    return SpikingResNet(
        (2, 2, 2, 2),
        _widths(width, 4),
        num_classes,
        time_steps,
        in_channels=in_channels,
        stem=stem,
        make_neuron=make_neuron,
        readout=readout,
        block=block,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("resnet19")
def spiking_resnet19(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 128,
    in_channels: Count = 3,
    stem: StemKind = "small",
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    block: Block = "basic",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingResNet:
    """ResNet-19: stages of 3, 3, 2 blocks, doubling in width, a spiking hidden layer; options of SpikingResNet.

    Args:
        width: channels of the first stage; the hidden layer is twice as wide.

    Example:
        >>> import torch
        >>> spiking_resnet19(num_classes=10, width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    return SpikingResNet(
        (3, 3, 2),
        _widths(width, 3),
        num_classes,
        time_steps,
        hidden=2 * width,
        in_channels=in_channels,
        stem=stem,
        make_neuron=make_neuron,
        readout=readout,
        block=block,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("resnet20")
def spiking_resnet20(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 16,
    in_channels: Count = 3,
    stem: StemKind = "small",
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    block: Block = "basic",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingResNet:
    """ResNet-20: stages of 3, 3, 3 blocks, doubling in width; options of SpikingResNet.

    Args:
        width: channels of the first stage.

    Example:
        >>> import torch
        >>> spiking_resnet20(num_classes=10, width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    return SpikingResNet(
        (3, 3, 3),
        _widths(width, 3),
        num_classes,
        time_steps,
        in_channels=in_channels,
        stem=stem,
        make_neuron=make_neuron,
        readout=readout,
        block=block,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("resnet34")
def spiking_resnet34(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 64,
    in_channels: Count = 3,
    stem: StemKind = "small",
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    block: Block = "basic",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingResNet:
    """ResNet-34: stages of 3, 4, 6, 3 blocks, doubling in width; options of SpikingResNet.

    Args:
        width: channels of the first stage.

    Example:
        >>> import torch
        >>> spiking_resnet34(num_classes=10, width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    return SpikingResNet(
        (3, 4, 6, 3),
        _widths(width, 4),
        num_classes,
        time_steps,
        in_channels=in_channels,
        stem=stem,
        make_neuron=make_neuron,
        readout=readout,
        block=block,
        norm=norm,
        classifier_std=classifier_std,
    )


@components.network("resnet110")
def spiking_resnet110(
    num_classes: int,
    time_steps: Count = 4,
    *,
    width: Count = 16,
    in_channels: Count = 3,
    stem: StemKind = "small",
    make_neuron: MakeNeuron = LIF,
    readout: Readout = "mean",
    block: Block = "basic",
    norm: Norm = "bn",
    classifier_std: ClassifierStd = None,
) -> SpikingResNet:
    """ResNet-110: stages of 18, 18, 18 blocks, doubling in width (He et al., CVPR 2016); options of SpikingResNet.

    Args:
        width: channels of the first stage.

    Example:
        >>> import torch
        >>> spiking_resnet110(num_classes=10, width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    return SpikingResNet(
        (18, 18, 18),
        _widths(width, 3),
        num_classes,
        time_steps,
        in_channels=in_channels,
        stem=stem,
        make_neuron=make_neuron,
        readout=readout,
        block=block,
        norm=norm,
        classifier_std=classifier_std,
    )


def _widths(first: int, stages: int) -> list[int]:
    check_sizes(width=first)
    return [first * 2**i for i in range(stages)]
