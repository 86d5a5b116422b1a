"""A block without a skip connection, for networks whose depth nothing shortens."""

from torch import Tensor, nn

from ..neurons import NormNeuron
from .blocks import MakeNeuron
from .layers import conv3x3, over_time


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, a neuron behind each: ``o = spike(f(x))``."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.spike1 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        self.conv2 = conv3x3(outputs, outputs)
        self.spike2 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, N, inputs, H, W]`` to spikes ``[T, N, outputs, H / stride, W / stride]``."""
        spikes: Tensor = self.spike2(over_time(self.conv2, self.spike1(over_time(self.conv1, x))))
        return spikes
