"""The parallel spiking neuron."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ... import components
from ..modules import Neuron
from ..surrogate import ATan, Surrogate

_ATAN = ATan()


@components.neuron("psn")
class PSN(Neuron):
    """Parallel spiking neuron: it has no state and no reset, and computes all time steps at once.

    ``u = weight @ I + bias`` over the axis of time, and ``s[t] = 1 if u[t] > 0``. The layer learns T * (T + 1) numbers,
    so sequences have one length. It has no step: it runs in plain PyTorch, where the matrix product dominates, and it
    cannot be streamed.

    Fang et al., "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies", NeurIPS
    2023.

    Args:
        time_steps: T of the network.
        surrogate: derivative of the spike in the backward pass.
        detach_membrane: must be false, since there is no membrane potential to detach.

    Example:
        >>> PSN(time_steps=4)(torch.randn(4, 2, 3)).shape
        torch.Size([4, 2, 3])
    """

    def __init__(
        self,
        time_steps: Annotated[int, Ge(1)] = 4,
        *,
        surrogate: Surrogate | None = _ATAN,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(surrogate=surrogate, detach_membrane=detach_membrane)
        self.weight = nn.Parameter(torch.empty(time_steps, time_steps))
        self.bias = nn.Parameter(torch.full((time_steps, 1), -1.0))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes ``[T, N, ...]`` of a sequence.

        Raises:
            ValueError: another number of time steps, or ``detach_membrane`` is set.
        """
        steps = len(self.weight)
        if current.shape[0] != steps:
            raise ValueError(f"this PSN takes {steps} time steps, got {current.shape[0]}: set time_steps")
        if self.detach_membrane:
            raise ValueError("PSN has no membrane potential to detach, as detach_membrane (SLTT) requires: use bptt")
        # Less precise potentials would change spikes.
        dtype = torch.float64 if current.dtype == torch.float64 else torch.float32
        with torch.autocast(current.device.type, enabled=False):
            potential = torch.addmm(self.bias.to(dtype), self.weight.to(dtype), current.flatten(1).to(dtype))
        return self.fire(potential).to(current.dtype).view(current.shape)

    def stream(self, current: Tensor, initial: Any = None) -> tuple[Tensor, Tensor]:
        """Return the spikes of a whole sequence and an empty state.

        Raises:
            ValueError: an initial state is passed.
        """
        if initial is not None:
            raise ValueError("PSN computes a whole sequence and cannot start from the state of an earlier sequence")
        return self(current), current.new_empty(0)
