"""The membrane-shortcut residual block: ``o = f(spike(x)) + x``, the residual path carries real values.

Hu et al., "Advancing Spiking Neural Networks towards Deep Residual Learning", 2021 (arXiv 2112.08954). Its authors
start the second normalisation of a block at 0; ours starts where ``norm`` says.
"""

from torch import Tensor, nn

from ..neurons import NormNeuron
from .blocks import MakeNeuron, Projection
from .layers import conv3x3, over_time


class MSBlock(nn.Module):
    """Two 3x3 convolutions, a neuron before each; what comes of them is added to the residual, and no neuron follows.

    What leaves the block, and what a branch behind it sees, is the current of the next block's first neuron: real
    values, through which the gradient passes the skip path undamped.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.spike1 = make_neuron()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.spike2 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        self.conv2 = conv3x3(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.project: nn.Module = nn.Identity() if same else Projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map currents ``[T, N, inputs, H, W]`` to currents ``[T, N, outputs, H / stride, W / stride]``."""
        hidden = self.spike2(over_time(self.conv1, self.spike1(x)))
        current: Tensor = over_time(self.norm2, over_time(self.conv2, hidden)) + self.project(x)
        return current
