"""Spiking ResNets for static images or event frames, as in the paper's experiments."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from .. import components
from ..neurons import LIF, NormNeuron
from .blocks import BLOCKS, Block, MakeNeuron, PlainBlock
from .layers import over_time
from .network import ClassifierStd, Count, Norm, Readout, SpikingNetwork
from .options import check_choice, check_sizes
from .roles import Roles, after
from .stems import StemKind, make_stem


class SpikingResNet(SpikingNetwork):
    """A ResNet of spiking blocks: stem, stages ``layer1``, ``layer2``, ..., mean over space, linear readout.

    It also takes the arguments of :class:`SpikingNetwork`.

    Args:
        blocks: blocks of each stage.
        width: channels of the stem and the first stage; each further stage has twice as many.
        stem: ``"small"`` (3x3, stride 1) or ``"large"`` (7x7, stride 2 and pooling).
        block: ``"basic"`` (the paper's ``spike(f(x) + x)``), ``"sew"`` (``spike(f(x)) + x``), ``"ms"``
            (``f(spike(x)) + x``), or ``"plain"`` (``spike(f(x))``, no skip connection). A stage outputs spikes, small
            integers or currents, and a branch after it averages these.

    Raises:
        ValueError: a size is not positive, or an option is unknown.

    Example:
        >>> import torch
        >>> network = SpikingResNet([1, 1], num_classes=10, width=4)
        >>> network(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    hidden_ratio: ClassVar[int] = 0
    """Width of a spiking fully connected layer before the classifier, relative to ``width``; 0 for no such layer."""

    def __init__(
        self,
        blocks: Sequence[int],
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
    ) -> None:
        super().__init__(num_classes, time_steps, in_channels, readout)
        if not blocks:
            raise ValueError("blocks must name at least one stage, as in (2, 2, 2, 2)")
        check_sizes(width=width, **{f"blocks[{i}]": depth for i, depth in enumerate(blocks)})
        check_choice("block", block, Block)
        kind = BLOCKS[block]
        self.stem = make_stem(stem, in_channels, width, make_neuron, kind.carries_spikes)
        self.stage_names = [f"layer{i + 1}" for i in range(len(blocks))]
        inputs = width
        for i, (name, depth) in enumerate(zip(self.stage_names, blocks, strict=True)):
            stage, outputs = nn.Sequential(), width * 2**i
            for b in range(depth):
                stage.append(kind(inputs, outputs, 2 if i and not b else 1, make_neuron))
                inputs = outputs
            self.add_module(name, stage)
        self.last_spike = None if kind.carries_spikes else make_neuron()
        self.hidden: nn.Module | None = None
        if self.hidden_ratio:
            hidden = self.hidden_ratio * width
            self.hidden = nn.Linear(inputs, hidden, bias=False)
            self.hidden_spike = NormNeuron(nn.BatchNorm1d(hidden), make_neuron())
            inputs = hidden
        self.classifier = nn.Linear(inputs, num_classes)
        self._initialise(norm, classifier_std)

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

    def roles(self) -> Roles:
        """Return the roles of neurons after the last block (see :mod:`.roles`)."""
        roles: Roles = {} if self.last_spike is None else {"last_spike": None}
        if self.hidden is not None:
            roles |= after("inner", "hidden", "hidden_spike")
        name = f"{self.stage_names[0]}.0"
        if not isinstance(self.stem.pool, nn.Identity) and type(self.get_submodule(name)) is PlainBlock:
            # Pooling raises the firing rate, so the layer after it does not copy.
            roles |= after("inner", f"{name}.conv1", f"{name}.spike1")
        return roles


class SpikingResNet19(SpikingResNet):
    """A ResNet with a spiking fully connected layer before the classifier, twice as wide as the first stage.

    Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021.

    Example:
        >>> import torch
        >>> network = spiking_resnet19(num_classes=10, time_steps=2, width=8)
        >>> network(torch.rand(4, 3, 16, 16)).shape
        torch.Size([4, 10])
    """

    hidden_ratio = 2


spiking_resnet8 = components.network("resnet8")(partial(SpikingResNet, (1, 1, 1), width=16))
"""ResNet-8, MLPerf Tiny's for images."""

spiking_resnet18 = components.network("resnet18")(partial(SpikingResNet, (2, 2, 2, 2), width=64))
"""ResNet-18."""

spiking_resnet19 = components.network("resnet19")(partial(SpikingResNet19, (3, 3, 2), width=128))
"""ResNet-19."""

spiking_resnet20 = components.network("resnet20")(partial(SpikingResNet, (3, 3, 3), width=16))
"""ResNet-20."""

spiking_resnet34 = components.network("resnet34")(partial(SpikingResNet, (3, 4, 6, 3), width=64))
"""ResNet-34."""

spiking_resnet110 = components.network("resnet110")(partial(SpikingResNet, (18, 18, 18), width=16))
"""ResNet-110 (He et al., CVPR 2016)."""
