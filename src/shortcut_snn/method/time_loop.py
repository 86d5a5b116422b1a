"""The time loop around a network that computes one time step per call."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .calls import signature_of


@dataclass(frozen=True)
class TimeLoop:
    """Call a network once per time step and stack its outputs along a new first axis.

    Args:
        steps: T for a static batch, which every call gets whole; None for a batch with a time axis.
        carry: pass ``state=`` the second output of the previous call, as Norse networks need.
        axis: the axis of time in the batch: 0 for ``[T, N, ...]``, 1 for ``[N, T, ...]``.

    Raises:
        ValueError: fewer than one time step.

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
        """Return the outputs of all steps: tensors ``[T, ...]``, in tuples or dictionaries as the network returns them.

        The batch is the first positional argument, or else the first keyword argument that is a tensor.
        """
        name = None if args else next((key for key, value in kwargs.items() if isinstance(value, Tensor)), None)
        batch: Tensor = args[0] if name is None else kwargs[name]

        def call(step: Tensor, **state: Any) -> Any:
            if name is None:
                return network(step, *args[1:], **kwargs, **state)
            return network(**kwargs | {name: step} | state)

        steps = self.steps_of(batch)
        if not self.carry:
            return _stack([call(step) for step in steps])
        outputs, state = [], None
        for step in steps:
            result = call(step, state=state)
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(
                    f"{type(network).__name__} takes a state and returns {type(result).__name__}, not (output, next "
                    "state)"
                )
            output, state = result
            outputs.append(output)
        return _stack(outputs)

    def steps_of(self, batch: Tensor) -> list[Tensor]:
        """Return what each call gets of a batch, step by step."""
        return list(batch.unbind(self.axis)) if self.steps is None else [batch] * self.steps


def takes_state(network: nn.Module) -> bool:
    """Return whether a network's ``forward`` has an argument ``state``.

    Example:
        >>> takes_state(nn.Linear(2, 2))
        False
    """
    return "state" in signature_of(network).parameters


def _stack(outputs: list[Any]) -> Any:
    """Stack tensors along a first axis, inside tuples and dictionaries; leave anything else as a list."""
    first = outputs[0]
    if isinstance(first, dict):
        return {key: _stack([output[key] for output in outputs]) for key in first}
    if isinstance(first, tuple | list) and len({len(output) for output in outputs}) == 1:
        return tuple(_stack(list(entries)) for entries in zip(*outputs, strict=True))
    alike = all(isinstance(output, Tensor) and output.shape == getattr(first, "shape", None) for output in outputs)
    return torch.stack(outputs) if alike else outputs
