"""The protocol of a task: a training step and an inference batch, and an observation that has to agree."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Weights and running statistics that every contender is given."""


@dataclass(frozen=True)
class Observation:
    """Results of one step of a contender.

    Args:
        logits: logits in float32.
        loss: loss of the step.
        rates: firing rate of each layer, in spikes per neuron and time step.
        gradient: norm of the gradient of the first layer's weights.
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
        """Run both on two samples, which compiles and loads everything and keeps little memory."""

    def release(self) -> None:
        """Drop the gradients."""

    def observe(self, training: bool) -> Observation | None:
        """Return the results of a step with batch or with running statistics; None without such a mode."""


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context of a precision: autocast for bfloat16, nothing for float32."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
