"""Norse: the neuron alone.

What its source says (1.1.0): ``LIFBoxCell`` computes ``v + dt / tau * (x - v)``, so with ``dt / tau = 1 / 2`` and
twice the weights it is the common dynamics; it fires at > the threshold. Its reset carries the spike's gradient
unless the reset method, which is a parameter, detaches it; its ``"triangle"`` is ``alpha * max(0, 1 - |v|)``.
"""

import torch
from norse.torch import LIFBoxCell, LIFBoxParameters, Lift
from torch import Tensor, nn

from ..dynamics import DECAY, THRESHOLD, TRIANGLE_HEIGHT
from .skeleton import LinearNeuron

# The weights are doubled, so the gradient with respect to the common weights is twice that of the doubled ones.
WEIGHT_FACTOR = 1.0 / (1.0 - DECAY)


def _reset(z: Tensor, v: Tensor, reset: Tensor, threshold: Tensor) -> Tensor:
    return (1 - z.detach()) * v


class Spikes(Lift):
    """A cell over a sequence; it returns the spikes alone."""

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = super().forward(x)[0]
        return spikes


def linear_lif(linear: nn.Linear) -> nn.Module:
    """Build the part ``"neuron"`` over a linear layer, whose weights are doubled in place."""
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.mul_(WEIGHT_FACTOR)
    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor(1.0 - DECAY),
        v_th=torch.tensor(THRESHOLD),
        method="triangle",
        alpha=TRIANGLE_HEIGHT,
        reset_method=_reset,
    )
    return LinearNeuron(linear, Spikes(LIFBoxCell(parameters, dt=1.0)))
