"""The recurrent LIF neuron."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor, nn

from ... import components
from ..modules import LIF, RECTANGLE, Reset, Threshold
from ..surrogate import Surrogate


@components.neuron("rlif")
class RLIF(LIF):
    """LIF that gets its own spikes of the step before, times a weight that is learned, one for the layer.

    One to one: what a layer of all-to-all recurrent weights adds is a product of matrices between two steps, and no
    kernel of single neurons (snnTorch's ``RLeaky`` with ``all_to_all=False``).

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.
        recurrent: where the learning of the weight starts; below 0 a spike inhibits the next one.

    Example:
        >>> RLIF(recurrent=-1.0)(torch.full((4, 1, 1), 1.2)).detach().flatten()
        tensor([1., 0., 1., 0.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "spikes")

    def __init__(
        self,
        decay: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5,
        recurrent: float = -0.5,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(decay, threshold, surrogate, reset, detach_reset, detach_membrane)
        self.recurrent = nn.Parameter(torch.tensor(float(recurrent)))

    def step(self, current: Tensor, membrane: Tensor, spikes: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the membrane potential after them, and the spikes again."""
        membrane = self.decay * membrane + current + self.recurrent * spikes
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike), spike
