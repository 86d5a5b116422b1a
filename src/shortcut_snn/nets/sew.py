"""The spike-element-wise residual block with ADD: ``o = spike(f(x)) + x``, the sum outside the neuron.

Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021.
"""

from torch import Tensor, nn

from ..neurons import NormNeuron
from .blocks import MakeNeuron
from .layers import SpikePointwiseConv2d, conv3x3, over_time


class SpikingProjection(nn.Module):
    """1x1 convolution, normalisation and neuron where a residual changes its shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv = SpikePointwiseConv2d(inputs, outputs, stride)
        self.spike = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, C, H, W]`` to spikes ``[T, N, outputs, H / stride, W / stride]``."""
        spikes: Tensor = self.spike(over_time(self.conv, x))
        return spikes


class SEWBlock(nn.Module):
    """Two 3x3 convolutions, a neuron behind each; the residual's spikes are added to those of the second.

    The outputs are small whole numbers: at most one more than the inputs', from 0 to 2 after a block that projects.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.spike1 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        self.conv2 = conv3x3(outputs, outputs)
        self.spike2 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        same = stride == 1 and inputs == outputs
        self.project = nn.Identity() if same else SpikingProjection(inputs, outputs, stride, make_neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Map counts ``[T, N, inputs, H, W]`` to counts ``[T, N, outputs, H / stride, W / stride]``."""
        hidden = self.spike1(over_time(self.conv1, x))
        counts: Tensor = self.spike2(over_time(self.conv2, hidden)) + self.project(x)
        return counts
