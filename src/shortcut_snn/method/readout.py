"""Readout: the logits in what a network returns, averaged over time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .taps import Unfold


@dataclass(frozen=True)
class Readout:
    """Map a network's output to its logits ``[N, classes]``, averaged over time.

    Args:
        path: the keys and indices of the logits in a tuple or a dictionary.
        time_axis: the axis to average over; None for none.
        unfold: splits the batch axis into time and samples first.
        listed: the output is a list with the logits of each time step; ``time_axis`` is then 0.
        class_axis: the axis of classes, after averaging, where that is not the second.

    Example:
        >>> import torch
        >>> Readout((0,), 0)((torch.rand(5, 2, 3), "membrane potential")).shape
        torch.Size([2, 3])
    """

    path: tuple[Any, ...] = ()
    time_axis: int | None = None
    unfold: Unfold | None = None
    listed: bool = False
    class_axis: int | None = None

    def find(self, output: Any) -> Tensor:
        """Return the logits as the network returns them."""
        logits = output
        # Some networks return a tuple in training alone, with the logits of auxiliary classifiers.
        if not isinstance(logits, Tensor):
            for key in self.path or (() if self.listed else (0,)):
                logits = entries(logits).get(key)
        if self.listed and isinstance(logits, list | tuple):
            logits = torch.stack(tuple(logits))
        if not isinstance(logits, Tensor):
            raise ValueError(
                f"the network returned {type(output).__name__} without the logits at {self}: pass readout=..."
            )
        return logits

    def __call__(self, output: Any) -> Tensor:
        """Return logits ``[N, classes]``.

        Raises:
            ValueError: the output has no tensor at the path.
        """
        logits = self.find(output)
        logits = logits if self.unfold is None else self.unfold(logits)
        logits = logits if self.time_axis is None else logits.mean(self.time_axis)
        return logits if self.class_axis is None else logits.movedim(self.class_axis, 1)

    def add(self, output: Any, logits: Tensor) -> Any:
        """Return the output with ``logits``, ``[N, classes]``, added to its own at every time step.

        Example:
            >>> import torch
            >>> Readout((), 1).add(torch.zeros(2, 5, 3), torch.ones(2, 3)).mean()
            tensor(1.)
        """
        main = self.find(output)
        logits = logits if self.class_axis is None else logits.movedim(1, self.class_axis)
        unfolded = main if self.unfold is None else self.unfold(main)
        total = unfolded + (logits if self.time_axis is None else logits.unsqueeze(self.time_axis))
        if self.listed:
            return _replaced(output, self.path, list(total))
        return _replaced(output, self.path or (() if isinstance(output, Tensor) else (0,)), total.view_as(main))

    def __str__(self) -> str:
        """Describe the readout in words, as in ``output[0] averaged over axis 0``."""
        path = "".join(f"[{key!r}]" for key in self.path)
        if self.listed:
            return f"output{path}, a list of time steps, averaged over them"
        if self.unfold is not None:
            averaged = "" if self.time_axis is None else " averaged over them"
            return f"output{path} of {self.unfold.steps} time steps in the batch axis{averaged}"
        return f"output{path}" + ("" if self.time_axis is None else f" averaged over axis {self.time_axis}")


def entries(output: Any) -> dict[Any, Any]:
    """Return the entries of a tuple, a dictionary or an object with fields, by index or key."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _replaced(output: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the output with another value at a path."""
    if not path or isinstance(output, Tensor):
        return value
    key, *inner = path
    value = _replaced(entries(output).get(key), tuple(inner), value)
    if isinstance(output, tuple | list):
        parts = [value if index == key else part for index, part in enumerate(output)]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    if isinstance(output, Mapping):
        output[key] = value  # type: ignore[index]
    else:
        setattr(output, key, value)
    return output
