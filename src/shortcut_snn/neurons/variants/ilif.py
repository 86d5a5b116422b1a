"""The integer LIF neuron."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from ... import components
from ..compiler.lowering import straight_through
from ..modules import LIF, Threshold


@dataclass(frozen=True)
class WithinBounds:
    """1 where a membrane potential is neither below 0 nor above ``most``: what stands for an I-LIF's surrogate."""

    most: int

    def __call__(self, v: Tensor) -> Tensor:
        """Return it for a membrane potential in thresholds."""
        return ((v >= 0) & (v <= self.most)).to(v.dtype)


@components.neuron("ilif")
class ILIF(LIF):
    """LIF that gives whole numbers from 0 to ``most`` in training; at inference each is so many spikes.

    Luo et al., "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
    Energy-efficient Object Detection", ECCV 2024. The gradient passes where the membrane potential, in thresholds, is
    between 0 and ``most``, so there is no surrogate to choose; the reset subtracts what was fired, so there is none of
    these either. See :func:`unrolled_spikes`.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1.
        most: the largest number.
        threshold: membrane potential for a spike.

    Example:
        >>> ILIF()(torch.full((3, 1, 1), 1.8)).flatten()
        tensor([2., 2., 2.])
    """

    binary: ClassVar[bool] = False
    surrogate: WithinBounds

    def __init__(
        self,
        decay: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.25,
        most: Annotated[int, Ge(1)] = 4,
        threshold: Threshold = 1.0,
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(decay, threshold, WithinBounds(most), "soft", detach_reset, detach_membrane)

    @property
    def most(self) -> int:
        """Return the largest number."""
        return self.surrogate.most

    @most.setter
    def most(self, most: int) -> None:
        self.surrogate = WithinBounds(most)

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return how often each neuron fires, and the membrane potential after that."""
        membrane = self.decay * membrane + current
        count = self.fire(membrane / self.threshold)
        return count, self.after(membrane, count)

    def fire(self, v: Tensor) -> Tensor:
        """Return the nearest whole number within its bounds."""
        return straight_through(v.clamp(0, self.most).round(), v, self.surrogate)


def unrolled_spikes(counts: Tensor, most: int) -> Tensor:
    """Return counts ``[T, N, ...]`` as spikes of 0 and 1, ``[T * most, N, ...]``: the first so many of each step's.

    A convolution or linear layer without bias gives for them, summed over each step's ``most``, what it gives for the
    counts: additions in place of products.

    Example:
        >>> unrolled_spikes(torch.tensor([[[2.0]], [[1.0]]]), 3).flatten()
        tensor([1., 1., 0., 1., 0., 0.])
    """
    places = torch.arange(most, device=counts.device).view(1, most, *[1] * (counts.dim() - 1))
    return (counts.unsqueeze(1) > places).to(counts.dtype).flatten(0, 1)
