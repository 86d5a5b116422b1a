"""The LIF neuron with a learned slope."""

import torch
from torch import Tensor, nn

from ... import components
from ..modules import LIF, RECTANGLE, Decay, Reset, Threshold
from ..surrogate import Surrogate


@components.neuron("klif")
class KLIF(LIF):
    """K-based LIF neuron: ``u_pre[t] = relu(k * (decay * u[t - 1] + I[t]))``; the layer learns k, which starts at 1.

    Jiang and Zhang, "KLIF: An optimized spiking neuron unit for tuning surrogate gradient slope and membrane
    potential", 2023 (arXiv 2302.09238).

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.

    Example:
        >>> KLIF()(torch.full((4, 1, 1), 0.75)).detach().flatten()
        tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        decay: Decay = 0.5,
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
        self.k = nn.Parameter(torch.tensor(1.0))

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return spikes and the membrane potential."""
        membrane = torch.relu(self.k * (self.decay * membrane + current))
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike)
