"""Inference of the batch axis: the axis of samples in the input, in taps and in the output.

One sample of the example is altered. An axis of the input is its batch axis if then the same sample, and no other,
changes in the output. The same passes answer the question for every module's output.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .._utils.calls import primary
from ..method import TimeLoop
from .adapters import find_adapters
from .answer import Answer, OpenQuestion
from .outputs import Path, tensors_of
from .perturb import BatchAxis, Changed, batch_axes
from .probe import Probe
from .recorder import Pass


@dataclass
class Samples:
    """The samples of the example along an axis of the input, and the axes of other tensors that hold them."""

    probe: Probe
    axis: int

    @property
    def length(self) -> int:
        """The number of samples in the passes."""
        return int(primary(self.probe.base.example).shape[self.axis])

    @property
    def altered(self) -> dict[int, Pass]:
        """The passes with the last sample altered, and with the first, by the index of the sample."""
        return {sample: self.probe.altered(self.axis, sample) for sample in (self.length - 1, 0)}

    def features(self, name: str) -> list[Any]:
        """Return the features of a module, call by call, in the base pass."""
        return [self.probe.features(name, output) for output in self.probe.base.outputs.get(name, [])]

    def axes_of_module(self, name: str) -> list[BatchAxis] | None:
        """Return the axes that may hold samples in a module's output; None if nothing changed in it."""
        features = self.features(name)[0]
        changes = {sample: done.changes.get(name) for sample, done in self.altered.items()}
        return batch_axes(features.shape, changes, self.length) if isinstance(features, Tensor) else None

    def axes_of_output(self, path: Path) -> list[BatchAxis] | None:
        """Return the axes that may hold samples in a tensor of the output; None if nothing changed in it."""
        changes = {sample: self.probe.changes_of_output(path, done) for sample, done in self.altered.items()}
        return batch_axes(tensors_of(self.probe.base.output)[path].shape, changes, self.length)

    def prefer_unmerged(self, axes: list[BatchAxis] | None, tensor: Tensor) -> list[BatchAxis]:
        """Return the axes of samples alone, or else all; by their length where no perturbation can tell."""
        if axes is None:
            axes = [BatchAxis(axis) for axis, size in enumerate(tensor.shape[:2]) if size == self.length]
        return [axis for axis in axes if not axis.merged] or axes

    def is_time(self, changes: Callable[[Pass], Changed | None], shape: Sequence[int], axis: int) -> bool:
        """Return whether an axis of a tensor is one of the input, such as time.

        It is if altering a late index along the input's axis changes no earlier index along it. The last indices may
        change nothing, in a network whose input acts one or two steps late.
        """
        for input_axis, length in enumerate(primary(self.probe.base.example).shape):
            if input_axis not in (0, self.axis) and length == shape[axis] > 2:
                for index in range(length - 1, max(length - 4, 0), -1):
                    indices = changes(self.probe.altered(input_axis, index))
                    if indices is not None:
                        if min(indices[axis]) >= index:
                            return True
                        break
        return False

    def stay_apart(self, every_tensor: bool) -> bool:
        """Return whether samples stay apart, in every tensor of the output or in one of them."""
        # A single number, and alongside logits a tensor of one axis, may be a statistic of the whole batch.
        least = 1 if every_tensor else 2
        tensors = {path: tensor for path, tensor in tensors_of(self.probe.base.output).items() if tensor.numel() > 1}
        paths = [path for path, tensor in tensors.items() if tensor.dim() >= least]
        axes = [changed for path in paths if (changed := self.axes_of_output(path)) is not None]
        if axes:
            return all(axes) if every_tensor else any(axes)
        # Where the output shows no sample, the last module that shows any counts.
        inside = (self.axes_of_module(name) for name in reversed(self.probe.base.outputs))
        return bool(next((changed for changed in inside if changed is not None), None))


def infer_batch_axis(
    probe: Probe, *, batch_axis: int | str = "auto", samples: int | None = None
) -> tuple[Answer[int], Samples]:
    """Infer the batch axis of the input."""
    name, shape, output = type(probe.initial).__name__, tuple(primary(probe.full_example).shape), probe.base.output
    if isinstance(output, Tensor) and not output.dim():
        raise ValueError(f"{name} returns a single number, as of a loss: pass a module that returns logits")
    candidates, reason = _candidates(probe, batch_axis, shape)
    known = [axis for axis in candidates if shape[axis] == samples]
    # Axes of another length than the number of samples are only tried to say so.
    rest = [axis for axis in candidates if axis not in known and shape[axis] > 1] if known else candidates
    separating = _separating_axes(probe, known) or _separating_axes(probe, rest)
    if len(separating) > 1:
        raise OpenQuestion(
            f"samples may lie along either of the first axes of the example, of shape {shape}: pass "
            "batch_axis=0 if it is [N, T, ...], batch_axis=1 if it is [T, N, ...]"
        )
    if not separating:
        if mixing := _first_mixing(probe, candidates):
            if shape[:2] == (1, 1):
                problem = f"in an example {shape}, one sample cannot be told from one step"
                raise ValueError(f"{problem}: pass 2 samples or more")
            advice = "".join(adapter.advice(probe.initial) for adapter in find_adapters(probe.initial))
            advice = advice or "attach a network without this in evaluation, and [N, T, ...] where both share an axis"
            raise ValueError(
                f"the samples of {name} influence each other: altering one changes others too, first {mixing}; {advice}"
            )
        if batch_axis == "auto":
            raise OpenQuestion(
                f"no axis of {name}'s input was found to hold independent samples: the output stays the same when a "
                "sample is altered, as in a network whose neurons never fire; pass batch_axis=0 or 1, for an example "
                f"{shape}"
            )
    axis = (separating or candidates)[0]
    if samples is not None and shape[axis] != samples:
        raise ValueError(
            f"there are labels of {samples} samples, but samples lie along axis {axis} of the example, of shape "
            f"{shape}: pass labels of these {shape[axis]}, or swap the axes of time and samples in the example"
        )
    return Answer(axis, reason), Samples(probe, axis)


def _candidates(probe: Probe, batch_axis: int | str, shape: Sequence[int]) -> tuple[list[int], str]:
    """Return the axes to try, and the reason for the one that is taken."""
    if batch_axis != "auto":
        if batch_axis not in (0, 1) or int(batch_axis) >= len(shape):
            raise ValueError(f"batch_axis must be 0 or 1, got {batch_axis!r}, for an example of shape {shape}")
        return [int(batch_axis)], f"batch_axis={batch_axis}"
    if isinstance(probe.run, TimeLoop):
        return [0 if probe.run.steps is not None else 1 - probe.run.axis], "the axis that is not looped over"
    return [0, 1][: len(shape)], "altering one sample along it changes this sample of the output alone"


def _separating_axes(probe: Probe, candidates: list[int]) -> list[int]:
    """Return the axes along which samples stay apart."""
    for every_tensor in (True, False):
        axes = (Samples(probe, axis) for axis in candidates)
        separating = [along.axis for along in axes if along.length > 1 and along.stay_apart(every_tensor)]
        # Alongside its logits a network may return statistics of the whole batch, such as firing rates.
        if separating or len(tensors_of(probe.base.output)) < 2:
            break
    return separating


def _first_mixing(probe: Probe, candidates: list[int]) -> str:
    """Say which module is the first to mix samples along every axis; empty if none of them shows in the output."""
    neurons = [f"{name}." for adapter in find_adapters(probe.initial) for name in adapter.neurons(probe.initial)]
    # A surrogate may be shared by all neurons.
    names = [
        name
        for name, event in probe.base.events.items()
        if name and event.shape is not None and not name.startswith(tuple(neurons))
    ]
    mixing = -1
    for axis in candidates:
        samples = Samples(probe, axis)
        if any(map(probe.output_differs, samples.altered.values())):
            # Samples lie along the axis along which they stay apart the longest.
            mixes = (index for index, name in enumerate(names) if samples.axes_of_module(name) == [])
            mixing = max(mixing, next(mixes, len(names)))
    return "" if mixing < 0 else f"in what {names[mixing]!r} gives" if mixing < len(names) else "in its own forward()"
