"""The LIF neuron with an adaptive threshold."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Interval
from torch import Tensor

from ... import components
from ..modules import LIF, RECTANGLE, Decay, Reset, Threshold, finite, from_0_to_1
from ..surrogate import Surrogate


@components.neuron("alif")
class ALIF(LIF):
    """Adaptive LIF neuron: each spike raises the threshold, which decays back.

    With ``a`` the rise of the threshold, a neuron fires where ``u_pre[t] > threshold + a[t - 1]``, and
    ``a[t] = adaptation * a[t - 1] + rise * s[t]``.

    Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.
        adaptation: factor on the rise of the threshold in a step, from 0 to 1.
        rise: amount by which a spike raises the threshold.

    Example:
        >>> import torch
        >>> ALIF(rise=0.5)(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 1., 0.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "raised")

    def __init__(
        self,
        decay: Decay = 0.5,
        adaptation: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.9,
        rise: Annotated[float, Ge(0)] = 0.2,
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
        self.adaptation, self.rise = from_0_to_1("adaptation", adaptation), finite("rise", rise)
        if rise < 0:
            raise ValueError(f"rise must be at least 0, got {rise}")

    def step(self, current: Tensor, membrane: Tensor, raised: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the membrane potential and the rise of the threshold."""
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold - raised)
        return spike, self.after(membrane, spike), self.adaptation * raised + self.rise * spike
