"""The residual block of the paper: ``o = spike(f(x) + x)``, the sum inside the neuron."""

from collections.abc import Callable

from torch import Tensor, nn

from ..neurons import Neuron, NormNeuron
from .layers import SpikePointwiseConv2d, conv3x3, over_time

MakeNeuron = Callable[[], Neuron]


class Projection(nn.Module):
    """1x1 convolution and normalisation where a residual changes its shape."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = SpikePointwiseConv2d(inputs, outputs, stride)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, C, H, W]`` to ``[T, N, outputs, H / stride, W / stride]``."""
        return over_time(lambda flat: self.norm(self.conv(flat)), x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the residual is added to the second neuron's current."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.spike1 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        self.conv2 = conv3x3(outputs, outputs)
        self.spike2 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        same = stride == 1 and inputs == outputs
        self.project: nn.Module = nn.Identity() if same else Projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, N, inputs, H, W]`` to spikes ``[T, N, outputs, H / stride, W / stride]``."""
        hidden = self.spike1(over_time(self.conv1, x))
        spikes: Tensor = self.spike2(over_time(self.conv2, hidden), residual=self.project(x))
        return spikes
