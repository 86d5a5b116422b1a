"""The complementary LIF neuron."""

from typing import ClassVar

import torch
from torch import Tensor

from ... import components
from ..modules import LIF, RECTANGLE, Decay, Threshold
from ..surrogate import Surrogate


@components.neuron("clif")
class CLIF(LIF):
    """Complementary LIF neuron: a second potential counts recent spikes and deepens the reset.

    With complementary potential ``m``: ``m[t] = m[t - 1] * sigmoid((1 - decay) * u_pre[t]) + s[t]`` and
    ``u[t] = u_pre[t] - s[t] * (threshold + sigmoid(m[t]))``, which is its reset.

    Huang et al., "CLIF: Complementary Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", ICML 2024.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.

    Example:
        >>> CLIF()(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 1., 1.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "complement")

    def __init__(
        self,
        decay: Decay = 0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(decay, threshold, surrogate=surrogate, detach_membrane=detach_membrane)

    def step(self, current: Tensor, membrane: Tensor, complement: Tensor) -> tuple[Tensor, ...]:
        """Return spikes and both potentials."""
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold)
        complement = complement * torch.sigmoid((1 - self.decay) * membrane) + spike
        return spike, membrane - spike * (self.threshold + torch.sigmoid(complement)), complement
