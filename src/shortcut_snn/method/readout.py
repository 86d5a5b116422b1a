"""Where a network's logits are in what it returns, and how they are laid out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .taps import Unfold


@dataclass(frozen=True)
class Readout:
    """Takes a network's output and returns its logits ``[N, classes]``, averaged over time.

    Args:
        path: keys and indices that lead to the logits in a tuple or a dictionary.
        time_axis: where time, or what else the logits are averaged over, lies in them; None for nowhere.
        unfold: takes time out of the batch axis first.
        listed: the output is a list of the logits of each time step, and ``time_axis`` 0.

    Example:
        >>> import torch
        >>> Readout((0,), 0)((torch.rand(5, 2, 3), "membrane potential")).shape
        torch.Size([2, 3])
    """

    path: tuple[Any, ...] = ()
    time_axis: int | None = None
    unfold: Unfold | None = None
    listed: bool = False

    def find(self, output: Any) -> Tensor:
        """Return the logits as the network gives them.

        Raises:
            ValueError: there are none.
        """
        if self.listed:
            return torch.stack(tuple(output))
        found = output
        # A network may give a tuple in training alone, as with auxiliary heads of its own.
        if not isinstance(found, Tensor):
            for key in self.path or (0,):
                found = entries(found).get(key)
        if not isinstance(found, Tensor):
            raise ValueError(
                f"the network gave {type(output).__name__} without logits where they were: pass readout=..."
            )
        return found

    def __call__(self, output: Any) -> Tensor:
        """Return logits ``[N, classes]``.

        Raises:
            ValueError: there are none.
        """
        logits = self.find(output)
        logits = logits if self.unfold is None else self.unfold(logits)
        return logits if self.time_axis is None else logits.mean(self.time_axis)

    def add(self, output: Any, logits: Tensor) -> Any:
        """Return the output with logits ``[N, classes]`` added to its own, those of every time step whole.

        Example:
            >>> import torch
            >>> Readout((), 1).add(torch.zeros(2, 5, 3), torch.ones(2, 3)).mean()
            tensor(1.)
        """
        main = self.find(output)
        own = main if self.unfold is None else self.unfold(main)
        added = own + (logits if self.time_axis is None else logits.unsqueeze(self.time_axis))
        if self.listed:
            return list(added)
        return _replaced(output, self.path or (0,), added.view_as(main))

    def __str__(self) -> str:
        """Say it in words."""
        if self.listed:
            return "output, a list of time steps, averaged over them"
        place = "".join(f"[{key!r}]" for key in self.path)
        unfolded = "" if self.unfold is None else f" of {self.unfold.steps} time steps in the batch axis"
        over = "" if self.time_axis is None else f" averaged over {'axis ' if self.unfold is None else ''}"
        over += "" if self.time_axis is None else (str(self.time_axis) if self.unfold is None else "them")
        return f"output{place}{unfolded}{over}"


def entries(output: Any) -> dict[Any, Any]:
    """Return what there is in a tuple, a dictionary or an object with fields, by index or key.

    Example:
        >>> entries((1, 2)), entries({"logits": 3})
        ({0: 1, 1: 2}, {'logits': 3})
    """
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _replaced(output: Any, path: tuple[Any, ...], value: Tensor) -> Any:
    if isinstance(output, Tensor):
        return value
    if isinstance(output, tuple | list):
        parts = [value if index == path[0] else part for index, part in enumerate(output)]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    if type(output) is dict:
        return output | {path[0]: value}
    if isinstance(output, Mapping):
        output[path[0]] = value  # type: ignore[index]
    else:
        setattr(output, path[0], value)
    return output
