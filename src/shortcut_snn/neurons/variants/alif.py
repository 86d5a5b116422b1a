"""The LIF neuron whose threshold adapts."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Interval
from torch import Tensor

from ... import components
from ..modules import LIF, RECTANGLE, Reset, Threshold
from ..surrogate import Surrogate


@components.neuron("alif")
class ALIF(LIF):
    """LIF whose threshold rises with each spike, and falls back by a factor in each step.

    Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.
        adaptation: factor on the rise of the threshold in a step, from 0 to 1.
        rise: by how much a spike raises the threshold.

    Example:
        >>> import torch
        >>> ALIF(rise=0.5)(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 1., 0.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "raised")

    def __init__(
        self,
        decay: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5,
        adaptation: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.9,
        rise: Annotated[float, Ge(0)] = 0.2,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(decay, threshold, surrogate, reset, detach_reset, detach_membrane)
        self.adaptation, self.rise = adaptation, rise

    def step(self, current: Tensor, membrane: Tensor, raised: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the membrane potential and by how much the threshold is raised after them."""
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold - raised)
        return spike, self.after(membrane, spike), self.adaptation * raised + self.rise * spike
