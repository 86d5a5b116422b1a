"""The layout of a network: how it is called, reset and read, where its axes are, and where its branches are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .readout import Readout
from .taps import Tap


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
        every_step: whether the prediction is that of every time step, ``[T, N, classes]``.
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
    every_step: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Return one line for each question: the answer and, in parentheses, its reason."""
        steps = self.time_steps or "T"
        where = "" if self.time_axis is None else f", axis {self.time_axis} of the input"
        loop = "one call for the whole batch" if self.run is None else f"one call for each of {steps} time steps{where}"
        readout = str(self.readout) if isinstance(self.readout, Readout) else "readout(output)"
        predicted = f"{self.num_classes} classes" if self.shape is None else " x ".join(map(str, self.shape))
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
