"""Residual blocks. They differ in what the skip connection adds, and whether before or after a neuron."""

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..neurons import Neuron, NormNeuron
from .layers import SpikePointwiseConv2d, conv3x3, over_time
from .roles import NeuronRole, Role, Roles, after, keeps_shape

MakeNeuron = Callable[[], Neuron]
Block = Literal["basic", "sew", "ms", "plain"]


class Projection(nn.Module):
    """1x1 convolution and normalisation of a residual whose shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = SpikePointwiseConv2d(inputs, outputs, stride)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, C, H, W]`` to ``[T, N, outputs, H / stride, W / stride]``."""
        return over_time(lambda flat: self.norm(self.conv(flat)), x)


class SpikingProjection(nn.Module):
    """1x1 convolution, normalisation and neuron of a residual whose shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv = SpikePointwiseConv2d(inputs, outputs, stride)
        self.spike = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, C, H, W]`` to spikes ``[T, N, outputs, H / stride, W / stride]``."""
        spikes: Tensor = self.spike(over_time(self.conv, x))
        return spikes


class PlainBlock(nn.Module):
    """Two 3x3 convolutions with a neuron after each: ``o = spike(f(x))``, without a skip connection.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> PlainBlock(3, 8, 2, LIF)(torch.rand(4, 2, 3, 8, 8)).shape
        torch.Size([4, 2, 8, 4, 4])
    """

    carries_spikes: ClassVar[bool] = True
    """Whether blocks output spikes. If they output currents, a neuron must follow the last block."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.spike1 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        self.conv2 = conv3x3(outputs, outputs)
        self.spike2 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, N, inputs, H, W]`` to spikes ``[T, N, outputs, H / stride, W / stride]``."""
        return self._spikes(x)

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        first: Role = "copy" if keeps_shape(self.conv1) else "inner"
        return after(first, "conv1", "spike1") | after("copy", "conv2", "spike2")

    def _spikes(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the second neuron's spikes, with a residual added to its current."""
        hidden = self.spike1(over_time(self.conv1, x))
        spikes: Tensor = self.spike2(over_time(self.conv2, hidden), residual=residual)
        return spikes


class BasicBlock(PlainBlock):
    """The paper's block, ``o = spike(f(x) + x)``: the residual is added to the second neuron's current.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> BasicBlock(3, 8, 2, LIF)(torch.rand(4, 2, 3, 8, 8)).shape
        torch.Size([4, 2, 8, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__(inputs, outputs, stride, make_neuron)
        self.project = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, N, inputs, H, W]`` to spikes ``[T, N, outputs, H / stride, W / stride]``."""
        return self._spikes(x, self.project(x))

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        return after("inner", "conv1", "spike1") | {"spike2": _sum(self.project, "skip", "spike2.norm")}


class SEWBlock(PlainBlock):
    """Spike-element-wise (SEW) block with ADD, ``o = spike(f(x)) + x``: it adds the residual to the second neuron's
    spikes.

    The outputs are small integers: at most one more than the inputs, and from 0 to 2 after a block with a projection.
    Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> SEWBlock(3, 8, 2, LIF)(torch.rand(4, 2, 3, 8, 8)).shape
        torch.Size([4, 2, 8, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__(inputs, outputs, stride, make_neuron)
        same = stride == 1 and inputs == outputs
        self.project = nn.Identity() if same else SpikingProjection(inputs, outputs, stride, make_neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Map counts ``[T, N, inputs, H, W]`` to counts ``[T, N, outputs, H / stride, W / stride]``."""
        counts: Tensor = self._spikes(x) + self.project(x)
        return counts

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        projection = {} if isinstance(self.project, nn.Identity) else after("first", "project.conv", "project.spike")
        return after("inner", "conv1", "spike1") | after("adding", "conv2", "spike2") | projection


class MSBlock(nn.Module):
    """Membrane-shortcut (MS) block, ``o = f(spike(x)) + x``: a neuron before each convolution, and none after the sum.

    The block outputs real values, the current of the next block's first neuron, and a branch taps these. The gradient
    passes the skip connection undamped. The authors initialise the second norm of a block to 0; here it is initialised
    as the network's ``norm`` specifies.

    Hu et al., "Advancing Spiking Neural Networks towards Deep Residual Learning", 2021 (arXiv 2112.08954).

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> MSBlock(3, 8, 2, LIF)(torch.rand(4, 2, 3, 8, 8)).shape
        torch.Size([4, 2, 8, 4, 4])
    """

    carries_spikes: ClassVar[bool] = False

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.spike1 = make_neuron()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.spike2 = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())
        self.conv2 = conv3x3(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.project = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map currents ``[T, N, inputs, H, W]`` to currents ``[T, N, outputs, H / stride, W / stride]``."""
        hidden = self.spike2(over_time(self.conv1, self.spike1(x)))
        current: Tensor = over_time(self.norm2, over_time(self.conv2, hidden)) + self.project(x)
        return current

    def roles(self) -> Roles:
        """Return the roles of its neurons (see :mod:`.roles`)."""
        return {"spike1": None} | after("inner", "conv1", "spike2") | {"": _sum(self.project, "stream", "norm2")}


BLOCKS: dict[str, type[PlainBlock | MSBlock]] = {
    "basic": BasicBlock, "sew": SEWBlock, "ms": MSBlock, "plain": PlainBlock
}  # fmt: skip


def _sum(project: nn.Module, role: Role, norm: str) -> NeuronRole:
    """Return the role of a neuron whose current is the sum of a norm's output and a residual."""
    if isinstance(project, nn.Identity):
        return NeuronRole(role, "conv2", norm)
    return NeuronRole("projected", "conv2", norm, "project.norm")


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and inputs == outputs else Projection(inputs, outputs, stride)
