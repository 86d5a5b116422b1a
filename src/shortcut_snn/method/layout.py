"""The layout of a network: how it is called, reset and read, where its axes are, and where its branches are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .taps import Tap, Unfold
from .targets import Criterion

_OVER_TIME: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda steps: steps.mean(0),
    "last": lambda steps: steps[-1],
    "max": lambda steps: steps.amax(0),
    "sum": lambda steps: steps.sum(0),
}


@dataclass(frozen=True)
class Readout:
    """Map a network's output to its logits ``[N, classes]``, averaged over time or reduced in another way.

    Args:
        path: the keys and indices of the logits in a tuple or a dictionary.
        time_axis: the axis of time to reduce; None for none.
        unfold: splits the batch axis into time and samples first.
        steps: what is read of the time steps: their ``"mean"``, the ``"last"`` one, their ``"max"`` or their ``"sum"``.
            With None all are kept, ``[T, N, classes]``.

    Example:
        >>> import torch
        >>> Readout((0,), 0)((torch.rand(5, 2, 3), "membrane potential")).shape
        torch.Size([2, 3])
    """

    path: tuple[Any, ...] = ()
    time_axis: int | None = None
    unfold: Unfold | None = None
    steps: str | None = "mean"

    def find(self, output: Any) -> Tensor:
        """Return the logits as the network returns them."""
        logits = output
        # Some networks return a tuple in training alone, with the logits of auxiliary classifiers.
        if not isinstance(logits, Tensor):
            for key in self.path or (0,):
                logits = entries(logits).get(key)
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
            logits = logits.movedim(self.time_axis, 0)
            logits = logits if self.steps is None else _OVER_TIME[self.steps](logits)
        return logits

    def add(self, output: Any, logits: Tensor) -> Any:
        """Return the output with ``logits``, ``[N, classes]``, added to its own at every time step."""
        main = self.find(output)
        if self.time_axis is not None:
            logits = logits.unsqueeze(self.time_axis)
        steps = self.unfolded(output)
        total = steps + (logits / steps.shape[self.time_axis or 0] if self.steps == "sum" else logits)
        return replaced(output, self.path or (() if isinstance(output, Tensor) else (0,)), total.view_as(main))

    def __str__(self) -> str:
        path = "".join(f"[{key!r}]" for key in self.path)
        words = {"last": "last step over", "max": "maximum over", "sum": "sum over"}
        reduced = "" if self.time_axis is None else f" {words.get(str(self.steps), 'averaged over')}"
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


def replaced(output: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return an output with another value at a path; a tensor is replaced as a whole."""
    if not path or isinstance(output, Tensor):
        return value
    key, *inner = path
    value = replaced(entries(output).get(key), tuple(inner), value)
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
    """How a network is called, reset and read, where its axes are, and where its branches are.

    :func:`shortcut_snn.attach` infers it, a built-in network returns its own (``network.layout()``), and it may be
    written down. ``dataclasses.replace`` changes a field. ``model.layout`` is what a wrapper uses.

    Args:
        library: the source of the network's neurons.
        run: calls the network on a batch, as :class:`~shortcut_snn.TimeLoop` does; None for one call.
        reset: returns the neurons to their initial state, before and after every pass; None if no state outlives one.
        batch_axis: the axis of samples in the input; None if it was not inferred.
        time_axis: the axis of time in the input; None without one.
        time_steps: T; None without a time axis, or if it was not observed.
        readout: maps the output to logits ``[N, classes]`` or to another prediction; None for the output itself.
        num_classes: width of the logits; for other tasks, the number of values that a branch predicts.
        taps: the tapped submodules.
        shape: of one sample's prediction, if that has several axes, as (steps, variables) of a forecast.
        step_axis: the axis of time in the prediction, if every time step has one: 0 for ``[T, N, classes]``, 1 for
            ``[N, T, values]``, 2 for ``[N, classes, T]``. Branches then predict each step from their features at it.
        criterion: the loss of one prediction, ``(prediction, target) -> scalar``; None for cross-entropy.
        reasons: the reason for each answer, by question: ``"time loop"``, ``"reset"``, ``"batch axis"``,
            ``"readout"``, ``"loss"``, ``"taps"``.

    Example:
        >>> import torch
        >>> from shortcut_snn import attach
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> layout = attach(net, example=torch.rand(5, 4), log=lambda line: None).layout
        >>> layout.batch_axis, layout.num_classes, [(tap.name, tap.channels) for tap in layout.taps]
        (0, 3, [('1', 8)])
    """

    library: str = "plain PyTorch"
    run: Callable[..., Any] | None = None
    reset: Callable[[nn.Module], object] | None = None
    batch_axis: int | None = None
    time_axis: int | None = None
    time_steps: int | None = None
    readout: Callable[[Any], Any] | None = None
    num_classes: int = 0
    taps: tuple[Tap, ...] = ()
    shape: tuple[int, ...] | None = None
    step_axis: int | None = None
    criterion: Criterion | None = None
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.num_classes, int):
            raise TypeError(f"num_classes must be an integer, got {self.num_classes!r}")
        if self.num_classes < 0 or (self.taps and not self.num_classes):
            raise ValueError(f"num_classes must be at least 1 for branches, got {self.num_classes}")

    def call(self, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the network's output for a batch."""
        return network(*args, **kwargs) if self.run is None else self.run(network, *args, **kwargs)

    def read(self, output: Any) -> Any:
        """Return the prediction in the network's output."""
        return output if self.readout is None else self.readout(output)

    @property
    def reads_steps(self) -> bool:
        """True if the readout finds every time step in the network's output."""
        return isinstance(self.readout, Readout) and self.readout.time_axis is not None

    def has_steps(self, network: nn.Module) -> bool:
        """Return whether the predictions of every time step can be read: by the readout, or from the network."""
        return self.reads_steps or isinstance(getattr(network, "readout", None), str)

    def summary(self) -> str:
        """Return one line for each question: the answer and, in parentheses, its reason."""
        steps = self.time_steps or "T"
        where = "" if self.time_axis is None else f", axis {self.time_axis} of the input"
        loop = "one call for the whole batch" if self.run is None else f"one call for each of {steps} time steps{where}"
        readout = str(self.readout) if isinstance(self.readout, Readout) else "readout(output)"
        predicted = f"{self.num_classes} classes" if self.shape is None else " x ".join(map(str, self.shape))
        predicted += "" if self.step_axis is None else " at each time step"
        criterion = "" if self.criterion is None else str(getattr(self.criterion, "__name__", self.criterion))
        answers = {
            "neurons": self.library,
            "time loop": loop,
            "reset": "not needed" if self.reset is None else "before and after every pass",
            "batch axis": "not inferred" if self.batch_axis is None else str(self.batch_axis),
            "readout": f"{'output' if self.readout is None else readout}, {predicted}",
            "loss": criterion and f"{criterion}{' of every time step' if self.step_axis == 0 else ''}",
            "taps": ", ".join(map(str, self.taps)) or "none",
        }
        reasons = {name: f" ({reason})" for name, reason in self.reasons.items() if reason}
        lines = [f"{name + ':':<12}{answer}{reasons.get(name, '')}" for name, answer in answers.items() if answer]
        return "\n".join(lines)
