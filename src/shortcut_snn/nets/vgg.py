"""Spiking VGGs: networks without skip connections."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from .. import components
from ..neurons import LIF, NormNeuron
from .blocks import MakeNeuron
from .layers import SpikeMaxPool2d, conv3x3, over_time
from .network import ClassifierStd, Count, Norm, Readout, SpikingNetwork
from .options import check_choice, check_sizes
from .roles import Roles, after, keeps_shape

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

        With ``time_steps``, ``[1, N, C, H, W]`` is a constant current.
        """
        spikes: Tensor = self.spike(over_time(self.conv, over_time(self.pool, x)), time_steps=time_steps)
        return spikes

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        may_copy = keeps_shape(self.conv) and isinstance(self.pool, nn.Identity)
        return after("copy" if may_copy else "inner", "conv", "spike")


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

    It also takes the arguments of :class:`SpikingNetwork`.

    Args:
        widths: channels of each layer of each stage, relative to ``width``.
        pooling: ``"max"``, whose outputs are spikes, or ``"average"``; both 2x2.
        width: channels of a layer whose relative width is 1.

    Raises:
        ValueError: a size is not positive, or an option is unknown.

    Example:
        >>> import torch
        >>> network = SpikingVGG([[1], [2, 2]], "max", num_classes=10, width=4)
        >>> network(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]],
        pooling: Pooling,
        num_classes: int,
        time_steps: Count = 4,
        *,
        width: Count = 64,
        in_channels: Count = 3,
        make_neuron: MakeNeuron = LIF,
        readout: Readout = "mean",
        norm: Norm = "bn",
        classifier_std: ClassifierStd = None,
    ) -> None:
        super().__init__(num_classes, time_steps, in_channels, readout)
        check_choice("pooling", pooling, Pooling)
        if not widths or not all(widths):
            raise ValueError(f"every stage needs a layer, got widths {[list(stage) for stage in widths]}")
        ratios = {f"widths[{i}][{j}]": ratio for i, stage in enumerate(widths) for j, ratio in enumerate(stage)}
        check_sizes(width=width, **ratios)
        self.stage_names = [f"stage{i + 1}" for i in range(len(widths))]
        inputs = in_channels
        for i, (name, stage_widths) in enumerate(zip(self.stage_names, widths, strict=True)):
            stage = VGGStage()
            for j, ratio in enumerate(stage_widths):
                pool: nn.Module = nn.Identity()
                if i and not j:
                    # Sizes are rounded up, so that an image too small for all poolings ends with one pixel.
                    pool = (SpikeMaxPool2d if pooling == "max" else nn.AvgPool2d)(2, ceil_mode=True)
                stage.append(ConvSpike(pool, inputs, ratio * width, make_neuron))
                inputs = ratio * width
            self.add_module(name, stage)
        self.classifier = nn.Linear(inputs, num_classes)
        self._initialise(norm, classifier_std)

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to averaged spikes ``[T, N, F]``."""
        time_steps: int | None = self.time_steps
        for name in self.stage_names:
            x, time_steps = self.get_submodule(name)(x, time_steps), None
        return x.mean((-2, -1))

    def roles(self) -> Roles:
        """Return no roles, since all neurons are in :class:`ConvSpike`."""
        return {}


spiking_vgg6 = components.network("vgg6")(partial(SpikingVGG, ((1,), (1, 4), (4, 4), (4,)), "max"))
"""A VGG of six convolutions for small images, as in Keller Jordan's airbench94 but for its stem."""

spiking_vgg11 = components.network("vgg11")(partial(SpikingVGG, ((1,), (2,), (4, 4), (8, 8), (8, 8)), "max"))
"""VGG-11."""

spiking_vgg16 = components.network("vgg16")(
    partial(SpikingVGG, ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8)), "max")
)
"""VGG-16."""

spiking_vggsnn = components.network("vggsnn")(partial(SpikingVGG, ((1, 2), (4, 4), (8, 8), (8, 8)), "average"))
"""VGGSNN, with average pooling."""
