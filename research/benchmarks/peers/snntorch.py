"""snnTorch: its usual loop over time, and layers fused over time with a loop in the neuron alone.

What its source says (1.0.0): ``Leaky(reset_mechanism="zero")`` computes ``beta * (1 - reset) * mem + x`` with
``reset = mem > threshold`` of the step before, detached: the paper's hard reset without its gradient. The spike of
a step is that step's (only the reset comes a step later), and it fires at > the threshold. Spikes are float32
whatever the current's dtype, so under autocast the membrane is float32 too.
"""

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor, nn

from ..cell import Cell
from ..dynamics import ATAN_ALPHA, DECAY, THRESHOLD, TRIANGLE_HEIGHT
from .skeleton import Kit, LinearNeuron, LoopNetwork, SequenceNetwork


def reset(model: nn.Module) -> None:
    """Set every neuron to membrane potential 0."""
    for module in model.modules():
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()


def leaky(spike_grad: object = None) -> snntorch.Leaky:
    """Build a neuron of the common dynamics."""
    return snntorch.Leaky(
        DECAY,
        THRESHOLD,
        spike_grad=spike_grad or surrogate.atan(ATAN_ALPHA),
        init_hidden=True,
        reset_mechanism="zero",
    )


class LeakyOverTime(nn.Module):
    """One call per time step of ``[T, N, ...]``."""

    def __init__(self, neuron: snntorch.Leaky) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.neuron(step) for step in x])


class ConvOverTime(nn.Conv2d):
    """Time and batch are one batch to it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class NormOverTime(nn.BatchNorm2d):
    """Statistics over time and batch together."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def fused(cell: Cell) -> SequenceNetwork:
    """Build the network with convolutions and normalisations fused over time."""
    _forget()
    kit = Kit(
        conv=lambda i, o, kernel, stride, pad: ConvOverTime(i, o, kernel, stride, pad, bias=False),
        norm=NormOverTime,
        neuron=lambda: LeakyOverTime(leaky()),
        reset=reset,
    )
    return SequenceNetwork(kit, cell.network, cell.width, cell.classes, cell.time_steps)


def loop(cell: Cell) -> LoopNetwork:
    """Build the network that runs once per time step."""
    _forget()
    kit = Kit(
        conv=lambda i, o, kernel, stride, pad: nn.Conv2d(i, o, kernel, stride, pad, bias=False),
        norm=nn.BatchNorm2d,
        neuron=leaky,
        reset=reset,
    )
    return LoopNetwork(kit, cell.network, cell.width, cell.classes, cell.time_steps)


def _forget() -> None:
    # The library keeps a list of the neurons built so far, and with them their graphs.
    snntorch.SpikingNeuron.init()


def _triangle(distance: Tensor, grad: Tensor, spikes: Tensor) -> Tensor:
    return grad * ((1.0 - distance.abs()).clamp_min(0.0) * TRIANGLE_HEIGHT)


def linear_lif(linear: nn.Linear) -> nn.Module:
    """Build the part ``"neuron"`` over a linear layer."""
    return LinearNeuron(linear, LeakyOverTime(leaky(surrogate.custom_surrogate(_triangle))), reset)
