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
    """No state and no reset: the potentials of all time steps are a matrix, which is learned, times all currents.

    Fang et al., "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies", NeurIPS
    2023. There is no step to write, so it is a ``forward`` over the whole sequence, in plain PyTorch, where the matrix
    product is most of it. It takes sequences of one length; it is folded and exported as it is, and not step by step.

    Args:
        time_steps: T of the network; each layer has T * (T + 1) numbers to learn.
        surrogate: ds/du in the backward pass.

    Example:
        >>> PSN(time_steps=4)(torch.randn(4, 2, 3)).shape
        torch.Size([4, 2, 3])
    """

    def __init__(
        self, time_steps: Annotated[int, Ge(1)] = 4, surrogate: Surrogate | None = _ATAN, detach_membrane: bool = False
    ) -> None:
        super().__init__(surrogate=surrogate, detach_membrane=detach_membrane)
        self.weight = nn.Parameter(torch.empty(time_steps, time_steps))
        self.bias = nn.Parameter(torch.full((time_steps, 1), -1.0))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes of a sequence.

        Raises:
            ValueError: a sequence of another length, or gradients that shall not travel through time.
        """
        steps = len(self.weight)
        if current.shape[0] != steps:
            raise ValueError(f"these parallel neurons take {steps} time steps, got {current.shape[0]}: set time_steps")
        if self.detach_membrane:
            raise ValueError("parallel neurons have no membrane potential that a gradient could stop at: use bptt")
        x = current.flatten(1)
        return self.fire(torch.addmm(self.bias.to(x.dtype), self.weight.to(x.dtype), x)).view(current.shape)

    def stream(self, current: Tensor, initial: Any = None) -> tuple[Tensor, Tensor]:
        """Return the spikes of a whole sequence, and nothing to go on from.

        Raises:
            ValueError: there is something to go on from.
        """
        if initial is not None:
            raise ValueError("parallel neurons take a sequence as a whole: they cannot go on from where one ended")
        return self(current), current.new_empty(0)
