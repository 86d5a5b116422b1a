"""What is known of a network that somebody else wrote: how to call, rest and read it, and where its axes are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .readout import Readout


@dataclass(frozen=True)
class Tap:
    """A submodule behind which there is a branch, and how its output is laid out.

    Args:
        name: of the submodule.
        shape: of what one call of it gave, time already out of the batch axis (see ``extract``).
        time_axis: where time lies in that: 0, 1, or None where there is none or the submodule is called every step.
        channel_axis: where channels lie.
        calls: how often it is called in a pass.
        extract: takes its output and returns its tensor; None for the output itself or the first entry of a tuple.
        why: how that was told.

    Example:
        >>> Tap("layer1", (4, 2, 8, 6, 6), time_axis=0, channel_axis=2).batch_axis
        1
    """

    name: str
    shape: tuple[int, ...]
    time_axis: int | None
    channel_axis: int
    calls: int = 1
    extract: Callable[[Any], Any] | None = field(default=None, repr=False)
    why: str = ""

    @property
    def batch_axis(self) -> int:
        """Where samples lie."""
        return 1 if self.time_axis == 0 else 0

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self.shape[self.channel_axis]


@dataclass(frozen=True)
class Description:
    """How a network is called, reset and read, and where its branches are: what :func:`shortcut_snn.attach` found.

    Args:
        library: whose neurons it has, in words.
        run: calls it on a batch, as a :class:`~shortcut_snn.TimeLoop` does; None for one call.
        reset: puts it to rest; None where nothing is left from one pass to the next.
        reset_why: how that was told.
        batch_axis: where samples lie in its input; None if that was not told.
        time_axis: where time lies in its input; None for nowhere.
        time_steps: T; None if there is no time, or it was not seen.
        readout: takes its output and returns logits ``[N, classes]``, or what else is predicted; None for the output.
        num_classes: how many there are.
        taps: where the branches are.
        shape: of what is predicted for a sample, where that has several axes.

    Example:
        >>> import torch
        >>> from shortcut_snn import attach
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> found = attach(net, example=torch.rand(5, 4), tell=lambda line: None).description
        >>> found.batch_axis, found.num_classes, [(tap.name, tap.channels) for tap in found.taps]
        (0, 3, [('1', 8)])
    """

    library: str
    run: Callable[..., Any] | None
    reset: Callable[[nn.Module], object] | None
    reset_why: str
    batch_axis: int | None
    time_axis: int | None
    time_steps: int | None
    readout: Callable[[Any], Any] | None
    num_classes: int
    taps: tuple[Tap, ...]
    shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        branches = ", ".join(f"{tap.name} ({tap.channels} channels)" for tap in self.taps) or "nowhere"
        if self.run is not None:
            # Axes of the whole batch, of which the network sees one step at a time.
            how = f"called once for each of {self.time_steps or 'its'} time steps"
            how += "" if self.time_axis is None else f", axis {self.time_axis} of the input"
        else:
            how = "called once a batch"
        samples = "" if self.batch_axis is None else f", samples along axis {self.batch_axis}"
        found = str(self.readout) if isinstance(self.readout, Readout) else "your readout"
        readout = "the output itself" if self.readout is None else found
        numbers = f"{self.num_classes} classes" if self.shape is None else " x ".join(map(str, self.shape))
        what = "logits" if self.shape is None else "prediction"
        return (
            f"branches behind {branches}; {self.library}, {how}{samples}; reset: {self.reset_why}; "
            f"{what}: {readout}, {numbers}"
        )
