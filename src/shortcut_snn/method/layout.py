"""The layout of a network: how it is called, reset and read, where its axes are, and where its branches are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .taps import Tap, Unfold

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda steps: steps.mean(0),
    "last": lambda steps: steps[-1],
    "max": lambda steps: steps.amax(0),
    "sum": lambda steps: steps.sum(0),
    "none": lambda steps: steps,
    "second": lambda steps: steps.transpose(0, 1),
}


@dataclass(frozen=True)
class Readout:
    """Map a network's output to its logits ``[N, classes]``, averaged over time or reduced in another way.

    Args:
        path: the keys and indices of the logits in a tuple or a dictionary.
        time_axis: the axis of time to reduce; None for none.
        unfold: splits the batch axis into time and samples first.
        listed: the output is a list with the logits of each time step; ``time_axis`` is then 0.
        class_axis: the axis of classes, after averaging, where that is not the second.
        reduction: over time: ``"mean"``, ``"last"`` for the last step, ``"max"`` or ``"sum"``. After ``"none"``
            time is the first axis, and after ``"second"`` the second.

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
    reduction: str = "mean"

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

    def unfolded(self, output: Any) -> Tensor:
        """Return the logits with time and samples in axes of their own."""
        logits = self.find(output)
        return logits if self.unfold is None else self.unfold(logits)

    def __call__(self, output: Any) -> Tensor:
        """Return logits ``[N, classes]``."""
        logits = self.unfolded(output)
        if self.time_axis is not None:
            logits = _REDUCTIONS[self.reduction](logits.movedim(self.time_axis, 0))
        return logits if self.class_axis is None else logits.movedim(self.class_axis, 1)

    def add(self, output: Any, logits: Tensor) -> Any:
        """Return the output with ``logits``, ``[N, classes]``, added to its own at every time step."""
        main = self.find(output)
        logits = logits if self.class_axis is None else logits.movedim(1, self.class_axis)
        if self.reduction == "second":
            logits = logits.transpose(0, 1)
        elif self.time_axis is not None:
            logits = logits.unsqueeze(self.time_axis)
        steps = self.unfolded(output)
        total = steps + (logits / steps.shape[self.time_axis or 0] if self.reduction == "sum" else logits)
        if self.listed:
            return _replaced(output, self.path, list(total))
        return _replaced(output, self.path or (() if isinstance(output, Tensor) else (0,)), total.view_as(main))

    def __str__(self) -> str:
        """Describe the readout in words, as in ``output[0] averaged over axis 0``."""
        path = "".join(f"[{key!r}]" for key in self.path)
        words = {"last": "last step over", "max": "maximum over", "sum": "sum over", "second": "with samples before"}
        reduced = "" if self.time_axis is None else f" {words.get(self.reduction, 'averaged over')}"
        if self.listed:
            return f"output{path}, a list of time steps,{reduced} them"
        if self.unfold is not None:
            return f"output{path} of {self.unfold.steps} time steps in the batch axis{reduced and f'{reduced} them'}"
        return f"output{path}" + (reduced and f"{reduced} axis {self.time_axis}")


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


@dataclass(frozen=True)
class Layout:
    """How a network is called, reset, laid out and read, with the reason for each answer.

    :func:`shortcut_snn.attach` infers it and stores it as ``model.layout``.

    Args:
        library: the source of the network's neurons.
        run: calls the network on a batch, as :class:`~shortcut_snn.TimeLoop` does; None for one call.
        reset: returns the neurons to their initial state; None if no state outlives a forward pass.
        batch_axis: the axis of samples in the input; None if it was not inferred.
        time_axis: the axis of time in the input; None without one.
        time_steps: T; None without a time axis, or if it was not observed.
        readout: maps the output to logits ``[N, classes]`` or to another prediction; None for the output itself.
        num_classes: width of the logits.
        taps: the tapped submodules.
        shape: of one sample's prediction, if that has several axes, as (steps, variables) of a forecast.
        step_axis: the axis of time in the prediction, if every time step has one; see :class:`~shortcut_snn.Shortcut`.
        reasons: the reason for each answer, by question: ``"time loop"``, ``"reset"``, ``"batch axis"``,
            ``"readout"``, ``"taps"``.

    Example:
        >>> import torch
        >>> from shortcut_snn import attach
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> layout = attach(net, example=torch.rand(5, 4), log=lambda line: None).layout
        >>> layout.batch_axis, layout.num_classes, [(tap.name, tap.channels) for tap in layout.taps]
        (0, 3, [('1', 8)])
    """

    library: str
    run: Callable[..., Any] | None
    reset: Callable[[nn.Module], object] | None
    batch_axis: int | None
    time_axis: int | None
    time_steps: int | None
    readout: Callable[[Any], Any] | None
    num_classes: int
    taps: tuple[Tap, ...]
    shape: tuple[int, ...] | None = None
    step_axis: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Return one line for each question: the answer and, in parentheses, its reason."""
        steps = self.time_steps or "T"
        where = "" if self.time_axis is None else f", axis {self.time_axis} of the input"
        loop = "one call for the whole batch" if self.run is None else f"one call for each of {steps} time steps{where}"
        readout = str(self.readout) if isinstance(self.readout, Readout) else "readout(output)"
        predicted = f"{self.num_classes} classes" if self.shape is None else " x ".join(map(str, self.shape))
        predicted += "" if self.step_axis is None else " at each time step"
        answers = {
            "neurons": self.library,
            "time loop": loop,
            "reset": "not needed" if self.reset is None else "before and after every pass",
            "batch axis": "not inferred" if self.batch_axis is None else str(self.batch_axis),
            "readout": f"{'output' if self.readout is None else readout}, {predicted}",
            "taps": ", ".join(f"{tap.name} ({tap.channels} channels)" for tap in self.taps) or "none",
        }
        lines = []
        for question, answer in answers.items():
            reason = self.reasons.get(question)
            lines.append(f"{question + ':':<12}{answer}" + (f" ({reason})" if reason else ""))
        return "\n".join(lines)
