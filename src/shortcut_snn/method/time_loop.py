"""Running a network that computes one time step a call over a whole sequence."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .passes import signature_of


@dataclass(frozen=True)
class TimeLoop:
    """Calls a network once per time step and stacks along a first axis what it gives.

    Args:
        steps: how often a static batch is shown; None for a batch with a time axis, one call for each time step.
        carry: the network is called with ``state=`` what it returned beside its output in the step before (Norse).
        axis: where time lies in the batch: 0 for ``[T, N, ...]``, 1 for ``[N, T, ...]``.

    Raises:
        ValueError: no time steps.

    Example:
        >>> TimeLoop()(nn.Linear(4, 3), torch.rand(5, 2, 4)).shape  # 5 calls
        torch.Size([5, 2, 3])
    """

    steps: int | None = None
    carry: bool = False
    axis: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"a static batch is shown for at least 1 time step, got {self.steps}")

    def __call__(self, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of all steps: tensors ``[T, ...]``, in tuples or dictionaries as the network does.

        The batch is the first argument, or the first tensor of those with names.
        """
        name = None if args else next((key for key, value in kwargs.items() if isinstance(value, Tensor)), None)
        batch: Tensor = args[0] if name is None else kwargs[name]
        steps = batch.unbind(self.axis) if self.steps is None else [batch] * self.steps

        def call(step: Tensor, **more: Any) -> Any:
            return (
                network(step, *args[1:], **kwargs, **more) if name is None else network(**kwargs | {name: step} | more)
            )

        if not self.carry:
            return _stack([call(step) for step in steps])
        outputs, state = [], None
        for step in steps:
            given = call(step, state=state)
            if not isinstance(given, tuple) or len(given) != 2:
                raise TypeError(
                    f"{type(network).__name__} takes a state and gives {type(given).__name__}, not (output, next state)"
                )
            output, state = given
            outputs.append(output)
        return _stack(outputs)


def takes_state(network: nn.Module) -> bool:
    """Whether a network can be given the state of the step before.

    Example:
        >>> takes_state(nn.Linear(2, 2))
        False
    """
    return "state" in signature_of(network).parameters


def _stack(outputs: list[Any]) -> Any:
    """Tensors stacked along a first axis, through tuples and dictionaries; of anything else, such as states, a list."""
    first = outputs[0]
    if isinstance(first, dict):
        return {key: _stack([output[key] for output in outputs]) for key in first}
    if isinstance(first, tuple | list) and len({len(output) for output in outputs}) == 1:
        return tuple(_stack(list(entries)) for entries in zip(*outputs, strict=True))
    alike = all(isinstance(output, Tensor) and output.shape == getattr(first, "shape", None) for output in outputs)
    return torch.stack(outputs) if alike else outputs
