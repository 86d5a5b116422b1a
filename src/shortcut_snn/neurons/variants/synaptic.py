"""The LIF neuron with a synaptic current."""

from typing import Annotated, ClassVar

from annotated_types import Interval
from torch import Tensor

from ... import components
from ..modules import LIF, RECTANGLE, Decay, Reset, Threshold, from_0_to_1
from ..surrogate import Surrogate


@components.neuron("synaptic")
class Synaptic(LIF):
    """Second-order LIF neuron: the synaptic current decays as well (snnTorch's ``Synaptic``).

    With synaptic current ``I_syn``: ``I_syn[t] = synapse * I_syn[t - 1] + I[t]`` and
    ``u_pre[t] = decay * u[t - 1] + I_syn[t]``.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1 (snnTorch's ``beta``).
        synapse: factor on the synaptic current in a step, from 0 to 1 (snnTorch's ``alpha``).

    Example:
        >>> import torch
        >>> Synaptic()(torch.full((4, 1, 1), 0.6)).flatten()
        tensor([0., 1., 1., 1.])
    """

    states: ClassVar[tuple[str, ...]] = ("synaptic", "membrane")

    def __init__(
        self,
        decay: Decay = 0.5,
        synapse: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5,
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
        self.synapse = from_0_to_1("synapse", synapse)

    def step(self, current: Tensor, synaptic: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the synaptic current and the membrane potential."""
        synaptic = self.synapse * synaptic + current
        membrane = self.decay * membrane + synaptic
        spike = self.fire(membrane - self.threshold)
        return spike, synaptic, self.after(membrane, spike)
