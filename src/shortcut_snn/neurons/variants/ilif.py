"""The integer LIF neuron."""

from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from ... import components
from ..modules import LIF, Decay, Threshold
from ..step_functions import straight_through
from ..surrogate import Scaled


@dataclass(frozen=True)
class WithinBounds:
    """The surrogate of an I-LIF neuron: 1 where the membrane potential is from 0 to ``max_spikes``, else 0."""

    max_spikes: int

    def __post_init__(self) -> None:
        if not isinstance(self.max_spikes, Integral) or self.max_spikes < 1:
            raise ValueError(f"max_spikes must be an integer of at least 1, got {self.max_spikes!r}")

    def __call__(self, v: Tensor) -> Tensor:
        """Return the derivative for a membrane potential in units of the threshold."""
        return ((v >= 0) & (v <= self.max_spikes)).to(v.dtype)


@components.neuron("ilif")
class ILIF(LIF):
    """Integer LIF neuron: in training it outputs integers from 0 to ``max_spikes``, at inference as many spikes.

    ``s[t] = round(clamp(u_pre[t] / threshold, 0, max_spikes))`` and ``u[t] = u_pre[t] - threshold * s[t]``. The
    gradient passes where ``u_pre / threshold`` is from 0 to ``max_spikes``, so surrogate and reset cannot be chosen.
    See :func:`unrolled_spikes` for the spikes.

    Luo et al., "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
    Energy-efficient Object Detection", ECCV 2024.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.
        max_spikes: largest output.
        threshold: membrane potential of one spike.

    Example:
        >>> ILIF()(torch.full((3, 1, 1), 1.8)).flatten()
        tensor([2., 2., 2.])
    """

    binary: ClassVar[bool] = False
    surrogate: Any

    def __init__(
        self,
        decay: Decay = 0.25,
        max_spikes: Annotated[int, Ge(1)] = 4,
        threshold: Threshold = 1.0,
        *,
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            decay, threshold, surrogate=WithinBounds(max_spikes), reset="soft", detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )  # fmt: skip

    @property
    def max_spikes(self) -> int:
        """The largest output."""
        surrogate: Any = self.surrogate.surrogate if isinstance(self.surrogate, Scaled) else self.surrogate
        return int(surrogate.max_spikes)

    @max_spikes.setter
    def max_spikes(self, max_spikes: int) -> None:
        self.surrogate = WithinBounds(max_spikes)

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return the spike count of each neuron and the membrane potential."""
        membrane = self.decay * membrane + current
        count = self.fire(membrane / self.threshold)
        return count, self.after(membrane, count)

    def fire(self, v: Tensor) -> Tensor:
        """Return the nearest integer from 0 to ``max_spikes``."""
        return straight_through(v.clamp(0, self.max_spikes).round(), v, self.surrogate)


def unrolled_spikes(counts: Tensor, max_spikes: int) -> Tensor:
    """Return counts ``[T, N, ...]`` as spikes ``[T * max_spikes, N, ...]``: a count of n is n spikes, then zeros.

    A convolution or linear layer without bias, summed over the ``max_spikes`` steps of a count, gives the same result
    for the spikes as for the counts, but with accumulates (AC) instead of multiply-accumulates (MAC).

    Example:
        >>> unrolled_spikes(torch.tensor([[[2.0]], [[1.0]]]), 3).flatten()
        tensor([1., 1., 0., 1., 0., 0.])
    """
    steps = torch.arange(max_spikes, device=counts.device).view(1, max_spikes, *[1] * (counts.dim() - 1))
    return (counts.unsqueeze(1) > steps).to(counts.dtype).flatten(0, 1)
