"""Running a network that computes one time step a call over a whole sequence."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TimeLoop:
    """Calls a network once per time step and stacks along a first axis what it gives.

    Args:
        steps: how often a static batch is shown; None for a batch ``[T, N, ...]``, one call for each time step.
        carry: the network is called with ``state=`` what it returned beside its output in the step before (Norse).

    Raises:
        ValueError: no time steps.

    Example:
        >>> TimeLoop()(nn.Linear(4, 3), torch.rand(5, 2, 4)).shape  # 5 calls
        torch.Size([5, 2, 3])
    """

    steps: int | None = None
    carry: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"a static batch is shown for at least 1 time step, got {self.steps}")

    def __call__(self, network: nn.Module, batch: Tensor, **kwargs: Any) -> Any:
        """Return the outputs of all steps: a tensor ``[T, ...]``, or a tuple of such where the network gives tuples."""
        steps = batch if self.steps is None else [batch] * self.steps
        if not self.carry:
            return _stack([network(step, **kwargs) for step in steps])
        outputs, state = [], None
        for step in steps:
            output, state = network(step, state=state, **kwargs)
            outputs.append(output)
        return _stack(outputs)


def takes_state(network: nn.Module) -> bool:
    """Whether a network can be given the state of the step before.

    Example:
        >>> takes_state(nn.Linear(2, 2))
        False
    """
    return "state" in inspect.signature(network.forward).parameters


def _stack(outputs: list[Any]) -> Any:
    if isinstance(outputs[0], tuple | list):
        return tuple(_stack(list(entries)) for entries in zip(*outputs, strict=True))
    return torch.stack(outputs)
