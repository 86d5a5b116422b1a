"""The recurrent LIF neuron."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ... import components
from ..modules import LIF, RECTANGLE, Decay, Reset, Threshold
from ..surrogate import Surrogate


@components.neuron("rlif")
class RLIF(LIF):
    """Recurrent LIF neuron: ``u_pre[t] = decay * u[t - 1] + I[t] + recurrent * s[t - 1]``.

    The recurrence is one to one, with a learned weight per layer: snnTorch's ``RLeaky`` with ``all_to_all=False``. An
    all-to-all recurrence would be a matrix product between two steps, which a step of single neurons cannot contain.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.
        recurrent: initial recurrent weight; below 0 a spike inhibits the next one.

    Example:
        >>> RLIF(recurrent=-1.0)(torch.full((4, 1, 1), 1.2)).detach().flatten()
        tensor([1., 0., 1., 0.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "spikes")

    def __init__(
        self,
        decay: Decay = 0.5,
        recurrent: float = -0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            decay,
            threshold,
            surrogate=surrogate,
            reset=reset,
            detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )
        self.recurrent = nn.Parameter(torch.tensor(float(recurrent)))

    def step(self, current: Tensor, membrane: Tensor, spikes: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the membrane potential, and the spikes again as a state."""
        membrane = self.decay * membrane + current + self.recurrent * spikes
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike), spike
