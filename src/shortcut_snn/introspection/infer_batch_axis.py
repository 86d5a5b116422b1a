"""Inference of the batch axis: the axis of samples in the input, in taps and in the output.

One sample of the example is altered. An axis of the input is its batch axis if then the same sample, and no other,
changes in the output. The passes are kept: they answer the same question for every module's output.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..method import Extract, TimeLoop, first_tensor, primary
from .answer import Answer
from .outputs import Path, tensors_of
from .perturb import BatchAxis, batch_axes, changed_indices, resized
from .probe import CALL_ERRORS, Pass, Probe

FEW_SAMPLES = 4
"""The number of samples to which large batches are reduced."""
CANDIDATES_TRIED = 5
"""The number of candidates that are tried for each tap."""
SEEDS = 5
"""The number of perturbations to try until one shows in the output."""


@dataclass
class SamplePasses:
    """The passes with one sample of the example altered, for one axis of the input.

    Args:
        probe: that ran them.
        full_example: the example in full size.
        extract: maps a module's output to its features.
        axis: the batch axis of the input.
        length: number of samples.
        base: the pass of the unaltered example.
        altered: the passes with one sample altered, by the index of the sample.
        mixing: whether samples depend on one another, so that only lengths identify their axis.
        witnesses: modules that show whether samples stay apart, if the output does not change.
    """

    probe: Probe
    full_example: Any
    extract: Extract
    axis: int
    length: int = 0
    base: Pass = field(default_factory=Pass)
    altered: dict[int, Pass] = field(default_factory=dict)
    mixing: bool = False
    witnesses: Sequence[str] = ()

    @property
    def example(self) -> Any:
        """The unaltered example."""
        return self.base.example

    @property
    def first_altered(self) -> Pass:
        """One of the passes with a sample altered."""
        return next(iter(self.altered.values()))

    def listen(self, names: Iterable[str]) -> None:
        """Repeat the passes to keep the outputs of modules that were not listened to."""
        missing = [name for name in dict.fromkeys(names) if name not in self.base.kept]
        for done in (self.base, *self.altered.values()) if missing else ():
            done.kept |= self.probe.observe(done.example, missing).kept

    def features(self, name: str) -> list[Any]:
        """Return the features of a module, call by call, in the unaltered pass."""
        return list(map(self.extract, self.base.kept[name]))

    def axes_of_module(self, name: str) -> list[BatchAxis] | None:
        """Return the axes that may hold samples in a module's output; None if nothing changed in it."""
        altered = {sample: list(map(self.extract, done.kept[name])) for sample, done in self.altered.items()}
        return batch_axes(self.features(name), altered, self.length)

    def axes_of_output(self, path: Path) -> list[BatchAxis] | None:
        """Return the axes that may hold samples in a tensor of the output; None if nothing changed in it."""
        altered = {
            sample: [tensor]
            for sample, done in self.altered.items()
            if (tensor := tensors_of(done.output).get(path)) is not None
        }
        return batch_axes([tensors_of(self.base.output)[path]], altered, self.length)

    def prefer_unmerged(self, axes: list[BatchAxis] | None, tensor: Tensor) -> list[BatchAxis]:
        """Return the axes of samples alone, or else all; by their length where no perturbation can tell."""
        if axes is None or (self.mixing and not axes):
            axes = [BatchAxis(axis) for axis, size in enumerate(tensor.shape[:2]) if size == self.length]
        return [axis for axis in axes if not axis.merged] or axes

    def sample_shows(self, sample: int) -> bool:
        """Return whether altering this sample changes the output."""
        before, after = tensors_of(self.base.output), tensors_of(self.altered[sample].output)
        # A tensor of one axis may be a statistic of the whole batch.
        wide = {path: tensor for path, tensor in before.items() if tensor.dim() > 1} or before
        return any(
            path not in after or changed_indices(tensor, after[path]) is not None for path, tensor in wide.items()
        )

    def separate_samples(self, every_tensor: bool) -> bool | None:
        """Return whether samples stay apart, in every tensor of the output or in one; None if nothing changed."""
        tensors = {path: tensor for path, tensor in tensors_of(self.base.output).items() if tensor.numel() > 1}
        if not every_tensor:
            tensors = {path: tensor for path, tensor in tensors.items() if tensor.dim() > 1}
        axes = [found for path in tensors if (found := self.axes_of_output(path)) is not None]
        if not axes:
            axes = [found for name in self.witnesses if (found := self.axes_of_module(name)) is not None]
        return (all(axes) if every_tensor else any(axes)) if axes else None


def infer_batch_axis(
    probe: Probe,
    full_example: Any,
    *,
    batch_axis: int | str = "auto",
    extract: Extract | None = None,
    samples: int | None = None,
    candidates: Sequence[Sequence[str]] = (),
) -> tuple[Answer[int], SamplePasses]:
    """Infer the batch axis of the input.

    Args:
        probe: of the network.
        full_example: the example in full size.
        batch_axis: as the caller passed it; ``"auto"`` to infer it.
        extract: maps a module's output to its features.
        samples: the number of samples, if it is known.
        candidates: for each tap; the outputs of these modules are kept.

    Returns:
        The axis, and the passes that showed it.

    Raises:
        ValueError: no axis or several axes may be the batch axis; the message names the argument to pass.
    """
    inference = _BatchAxisInference(probe, full_example, first_tensor if extract is None else extract, samples)
    inference.witnesses = [names[0] for names in candidates]
    return inference.infer(batch_axis, [name for names in candidates for name in names[:CANDIDATES_TRIED]])


class _BatchAxisInference:
    """The facts that the inference shares, and its steps."""

    def __init__(self, probe: Probe, full_example: Any, extract: Extract, samples: int | None) -> None:
        self.probe, self.full_example, self.extract, self.samples = probe, full_example, extract, samples
        self.witnesses: Sequence[str] = ()
        self.shape = tuple(primary(full_example).shape)
        self.name = type(probe.initial).__name__

    def infer(self, batch_axis: int | str, names: Sequence[str]) -> tuple[Answer[int], SamplePasses]:
        candidates, reason = self._candidates(batch_axis)
        separated = self._separating_passes(candidates, names)
        fitting = [axis for axis in separated if self.samples in (None, self.shape[axis])] or list(separated)
        if len(fitting) > 1:
            raise ValueError(
                f"samples may lie along either of the first axes of the example, of shape {self.shape}: pass "
                "batch_axis=0 if it is [N, T, ...], batch_axis=1 if it is [T, N, ...]"
            )
        if fitting:
            return Answer(fitting[0], reason), separated[fitting[0]]
        if batch_axis == "auto":
            self._refuse_merged_input()
            raise ValueError(
                f"no axis of {self.name}'s input was found to hold independent samples: "
                f"{self._explain_failure(candidates)}; pass batch_axis=0 or batch_axis=1, the batch axis of the "
                f"example, of shape {self.shape}"
            )
        passes = self._passes(candidates[0], names, stop_early=False)
        if passes is None:
            raise ValueError(f"batch_axis={batch_axis}, but the example, of shape {self.shape}, has no such batch axis")
        passes.mixing = True
        return Answer(candidates[0], reason), passes

    def _candidates(self, batch_axis: int | str) -> tuple[list[int], str]:
        """Return the axes to try, and the reason for the one that is taken."""
        loop = self.probe.run
        if batch_axis != "auto":
            if batch_axis not in (0, 1):
                raise ValueError(f"batch_axis must be 0 or 1, got {batch_axis!r}")
            return [int(batch_axis)], f"batch_axis={batch_axis}"
        if isinstance(loop, TimeLoop):
            return [0 if loop.steps is not None else 1 - loop.axis], "the axis that is not looped over"
        return [0, 1], "altering one sample along it changes this sample of the output alone"

    def _separating_passes(self, candidates: list[int], names: Sequence[str]) -> dict[int, SamplePasses]:
        """Return the passes for each axis along which samples stay apart."""
        separated: dict[int, SamplePasses] = {}
        outputs = 0
        for every_tensor in (True, False):
            for axis in candidates:
                if len(self.shape) > axis:
                    passes = self._passes(axis, names, every_tensor=every_tensor)
                    if passes is not None:
                        outputs = max(outputs, len(tensors_of(passes.base.output)))
                        if passes.separate_samples(every_tensor):
                            separated[axis] = passes
            # Alongside its logits a network may return statistics of the whole batch, such as firing rates.
            if separated or outputs < 2:
                break
        return separated

    def _passes(
        self, axis: int, names: Sequence[str], *, every_tensor: bool = False, stop_early: bool = True
    ) -> SamplePasses | None:
        """Run the passes for an axis; None if the network takes no such batch.

        With ``every_tensor``, no more samples are altered once samples mix, unless ``stop_early`` is off.
        """
        passes = self._base_pass(axis, names)
        if passes is None:
            return None
        for sample in dict.fromkeys([passes.length - 1, 0, passes.length // 2]):
            for seed in range(SEEDS):
                passes.altered[sample] = self.probe.observe_altered(passes.example, axis, sample, names, seed)
                if passes.sample_shows(sample):
                    break
            if every_tensor and stop_early and passes.separate_samples(every_tensor=True) is False:
                break
        return passes

    def _base_pass(self, axis: int, names: Sequence[str]) -> SamplePasses | None:
        """Run the pass of the example with few samples, or with all if the network takes no fewer."""
        example = self.probe.example
        length = primary(example).shape[axis]
        few = FEW_SAMPLES if length > 2 * FEW_SAMPLES else 3 if length == 1 else length
        for samples in dict.fromkeys([few, length]):
            try:
                batch = example if samples == length else resized(example, axis, samples)
                base = self.probe.observe(batch, names)
                return SamplePasses(
                    self.probe, self.full_example, self.extract, axis, samples, base, witnesses=self.witnesses
                )
            except CALL_ERRORS:
                continue
        return None

    # Errors

    def _refuse_merged_input(self) -> None:
        """Raise an error if the first axis of the input itself holds all time steps of all samples."""
        rows = primary(self.probe.example).shape[0]
        base = tensors_of(self.probe.observe().output)
        altered = {
            row: tensors_of(self.probe.observe_altered(self.probe.example, 0, row).output)
            for row in dict.fromkeys([0, 1, rows // 2, rows - 1])
        }
        for path, tensor in base.items():
            if not tensor.dim() or tensor.shape[0] != rows:
                continue
            changed = {
                row: (changed_indices(tensor, output[path]) or [set()])[0]
                for row, output in altered.items()
                if path in output
            }
            if not any(changed.values()):
                continue
            for steps in range(2, rows):
                if rows % steps == 0:
                    self._refuse_steps(steps, rows // steps, changed)

    def _refuse_steps(self, steps: int, samples: int, changed: dict[int, set[int]]) -> None:
        batch_first = all({i // steps for i in rows} <= {row // steps} for row, rows in changed.items())
        time_first = all({i % samples for i in rows} <= {row % samples} for row, rows in changed.items())
        if batch_first or time_first:
            axis, sizes = (1, f"(-1, {steps})") if batch_first else (0, f"({steps}, -1)")
            unfold = f"unflatten(0, {sizes})"
            raise ValueError(
                f"the example, of shape {self.shape}, seems to hold {steps} time steps of each sample in its first "
                f"axis: pass batch_axis=0, time_axis={axis}, extract=lambda y: y.{unfold} and readout=lambda y: "
                f"y.{unfold}.mean({axis})"
            )

    def _explain_failure(self, candidates: list[int]) -> str:
        """Say which module is the first to mix samples, or the last to change with them."""
        names = [name for name, event in self.probe.trace.events.items() if name and event.shape is not None]
        mixing = last_changed = -1
        for axis in candidates:
            passes = self._passes(axis, names, stop_early=False) if primary(self.probe.example).dim() > axis else None
            if passes is None:
                continue
            axes = [_axes_or_none(passes.axes_of_module, name) for name in names]
            last_changed = max([last_changed, *(index for index, found in enumerate(axes) if found)])
            if any(map(passes.sample_shows, passes.altered)):
                # Samples lie along the axis along which they stay apart the longest.
                mixing = max(mixing, next((index for index, found in enumerate(axes) if found == []), len(names)))
        if mixing >= 0:
            where = f"in what {names[mixing]!r} gives" if mixing < len(names) else "in its own forward()"
            return f"altering one changes others too, first {where}"
        where = f"after {names[last_changed]!r}" if last_changed >= 0 else "anywhere"
        return f"nothing changes {where} when a sample is altered, as in a network whose neurons never fire"


def _axes_or_none(axes_of: Callable[[str], list[BatchAxis] | None], name: str) -> list[BatchAxis] | None:
    try:
        return axes_of(name)
    except (*CALL_ERRORS, StopIteration):
        return None


def total_steps(passes: SamplePasses, view: Callable[[Pass], Tensor], listen: Sequence[str] = ()) -> int:
    """Return T of a tensor that holds time and samples in its first axis, for the example in full size."""
    rows = len(view(passes.probe.observe(passes.full_example, listen)))
    return rows // int(primary(passes.full_example).shape[passes.axis])


def place_of_samples(passes: SamplePasses, name: str, features: Tensor) -> BatchAxis:
    """Return the axis of samples in the features of a tap.

    Raises:
        ValueError: no axis, several axes, or one that :class:`~shortcut_snn.Shortcut` cannot use.
    """
    axes = passes.prefer_unmerged(passes.axes_of_module(name), features)
    shape = tuple(features.shape)
    if len(axes) != 1:
        problem = "may hold samples along several axes" if axes else "mixes samples"
        raise ValueError(
            f"the tap {name!r} gives shape {shape}, which {problem}: pass time_axis=0 for [T, N, ...], 1 for "
            "[N, T, ...] or None for [N, ...]"
        )
    (found,) = axes
    if found.axis > (0 if found.merged else 1):
        raise ValueError(
            f"the tap {name!r} gives shape {shape} with its samples along axis {found.axis}: pass extract=..., as in "
            f"lambda y: y.movedim({found.axis}, 0), and time_axis=None"
        )
    return found
