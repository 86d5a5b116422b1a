"""What is measured: a training step and an inference batch; and what has to agree."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Weights and running statistics that every contender is given."""


@dataclass(frozen=True)
class Observation:
    """What a contender computes in one step.

    Args:
        logits: what the step is judged by, in float32.
        loss: of the step.
        rates: mean of the spikes of each layer, spikes per neuron and time step.
        gradient: norm of the loss's gradient with respect to the first layer's weights.
    """

    logits: Tensor
    loss: float
    rates: list[float] = field(default_factory=list)
    gradient: float = 0.0


class Task(Protocol):
    """One contender on one cell."""

    def step(self) -> None:
        """Run forward, loss and backward on a batch; no optimizer step."""

    def infer(self) -> None:
        """Run a batch in eval mode without gradients."""

    def warm(self) -> None:
        """Run both on two samples: compiles and loads what there is to, and leaves little behind."""

    def release(self) -> None:
        """Drop the gradients."""

    def observe(self, training: bool) -> Observation | None:
        """Return what a step computes, with batch or with running statistics; None where it has no such mode."""


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context of a precision: autocast for bfloat16, nothing for float32."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
