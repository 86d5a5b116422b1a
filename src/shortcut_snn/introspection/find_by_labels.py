"""Search for the prediction by the shape of the labels, such as ``[N, steps, variables]`` or ``[N, *positions]``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .._utils.calls import primary
from ..method import Readout
from .answer import OpenQuestion
from .channels import Changes, channel_axis, follows_time
from .find_logits import LogitsSearch
from .outputs import Path, indexed


@dataclass(frozen=True)
class Prediction:
    """The readout of a network, and the shape of its predictions.

    Args:
        readout: maps the output to predictions; None for the output itself.
        num_classes: width of the logits.
        shape: of one sample's prediction, if that is not logits.
        step_axis: the axis of time in them, if every time step has one.
    """

    readout: Callable[[Any], Any] | None
    num_classes: int
    shape: tuple[int, ...] | None = None
    step_axis: int | None = None

    def read(self, output: Any) -> Any:
        """Return the predictions in an output."""
        return output if self.readout is None else self.readout(output)


@dataclass
class LabelsSearch(LogitsSearch):
    """The search for predictions that fit labels of several axes.

    With ``time_first``, labels are those of every time step, ``[T, N, ...]``.
    """

    time_first: bool

    @property
    def _sizes(self) -> tuple[int, ...]:
        """The axes of a sample's labels, with as many time steps as the passes have."""
        probe, time = self.samples.probe, 1 - self.samples.axis
        full, passed = (primary(example).shape[time:] for example in (probe.full_example, probe.base.example))
        sizes = () if self.labels is None else tuple(self.labels.shape[1:])
        return tuple(passed[0] if full and size == full[0] else size for size in sizes)

    def _predictions_fitting_labels(self) -> list[Prediction]:
        """Return the predictions that fit labels of several axes, as they stand or averaged over time.

        Numbers ``[N, ...]`` fit a prediction of their shape. Classes ``[N, *positions]`` fit ``[N, classes,
        *positions]`` and ``[N, *positions, classes]``, or else, as labels that exclude no other, their own shape.
        """
        if self.labels is None or self.labels.dim() < 2:
            return []
        sizes, numbers, classes = self._sizes, list[Prediction](), list[Prediction]()
        full = tuple(self.labels.shape[1:])
        tensors = self.tensors()
        # Hidden spikes of the width of classes may have the shape of numbers.
        for path, tensor in (tensors if self.labels.is_floating_point() else self.without_others(tensors)).items():
            axes = self.samples.prefer_unmerged(self.samples.axes_of_output(path), tensor)
            batch = next((one.axis for one in axes if not one.merged), 2)
            if self.time_first:
                steps = self._prediction_of_steps(tensor, Readout(path), indexed(path)) if batch == 1 else None
                numbers += [] if steps is None else [steps]
                continue
            if batch == 1 and sizes[:1] == tensor.shape[:1]:
                numbers += self._steps_of_samples(path, tuple(tensor.shape[2:]), self.labels)
                continue
            for time in (None, 1 - batch):
                if (batch == 0 or time == 0) and tensor.dim() > batch:
                    rest = tuple(tensor.shape[1 if time is None else 2 :])
                    if rest == sizes:
                        shape = full if len(sizes) > 1 else None
                        whole = Prediction(Readout(path, time), self.num_classes or full[0], shape)
                        numbers.append(self._of_steps(whole, [1, 2] if len(sizes) == 2 else [1]))
                    elif sizes in (rest[1:], rest[:-1]) and not self.labels.is_floating_point():
                        classes.append(self._prediction_of_classes(path, time, rest, sizes))
        return classes or numbers

    def _steps_of_samples(self, path: Path, rest: Sequence[int], labels: Tensor) -> list[Prediction]:
        """Return the prediction in ``[T, N, ...]`` that fits labels ``[N, T, ...]``, if it does."""
        readout, sizes, full = Readout(path, 0, steps="second"), self._sizes, tuple(labels.shape[1:])
        if _fit(rest, sizes[1:]):
            return [self._of_steps(Prediction(readout, full[0], (full[0], *rest) if rest else None), [1])]
        if labels.is_floating_point() or sizes[1:] != rest[1:]:
            return []
        return [self._of_steps(Prediction(replace(readout, class_axis=2), rest[0], (rest[0], *full)), [2])]

    def _of_steps(self, whole: Prediction, axes: Sequence[int]) -> Prediction:
        """Return a prediction ``[N, ...]`` as that of every time step, if time is one of its axes."""
        for axis in axes:
            if follows_time(self.samples, whole.read, axis):
                sizes = [size for other, size in enumerate(whole.read(self.output).shape) if other not in (0, axis)]
                return self._with_shape(whole.readout, sizes, axis)
        return whole

    def _with_shape(self, readout: Any, sizes: Sequence[int], step_axis: int) -> Prediction:
        """Return a prediction of these sizes at every time step."""
        width, shape = sizes[0] if sizes else 1, tuple(sizes) if len(sizes) > 1 else None
        return Prediction(readout, self.num_classes or width, shape, step_axis)

    def _prediction_of_steps(
        self, prediction: Tensor, readout: Any, name: str, sure: bool = False
    ) -> Prediction | None:
        """Return the predictions ``[T, N, classes, *positions]`` if the labels fit them.

        Raises:
            ValueError: the classes come last; or may, in a network with as many positions, if the caller is not sure.
        """
        assert self.labels is not None
        shape, sizes = tuple(prediction.shape[2:]), tuple(self.labels.shape[2:])
        if self.labels.is_floating_point() or sizes == shape:
            return self._with_shape(readout, shape, 0) if _fit(shape, sizes) else None
        fits = sizes == shape[1:]
        if sizes and sizes == shape[:-1] and not (fits and sure):
            raise OpenQuestion(
                f"labels [T, N, positions] need predictions [T, N, classes, positions], and {name} has shape "
                f"{tuple(prediction.shape)}: pass readout=..., as in lambda output: {name}.movedim(-1, 2)"
            )
        return replace(self._with_shape(readout, shape, 0), shape=None) if fits else None

    def _prediction_of_classes(
        self, path: Path, time: int | None, rest: tuple[int, ...], sizes: tuple[int, ...]
    ) -> Prediction:
        """Return the prediction of a class at every position, with the classes in its second axis."""
        first, last = (1, len(rest)) if time is None else (2, len(rest) + 1)
        classes = first if rest[1:] == sizes else last
        if rest[1:] == rest[:-1]:
            classes = channel_axis(self.samples.probe, self._changes_of(path), (first, last)) or first
        width = rest[0] if classes == first else rest[-1]
        readout = Readout(path, time, class_axis=None if classes == first else -1)
        if len(sizes) > 1:
            return Prediction(readout, self.num_classes or width)
        assert self.labels is not None
        return self._of_steps(Prediction(readout, self.num_classes or width, (width, *self.labels.shape[1:])), [2])

    def _check_labels(self, classes: int) -> None:
        """Check that labels that are indices of classes are among those that the network predicts."""
        largest = self.classes_of_labels()
        if self.labels is None or largest is None or classes == 1:
            return
        # -100 is PyTorch's label for no class.
        known = self.labels[self.labels != -100]
        if len(known) and (int(known.min()) < 0 or largest > classes):
            raise ValueError(
                f"labels go from {int(known.min())} to {largest - 1}, but the network predicts {classes} classes, 0 to "
                f"{classes - 1}: pass labels that begin at 0, or a network of more classes"
            )

    def _check_shape_of_labels(self, prediction: Tensor) -> None:
        """Check that labels of several axes can be compared with the prediction."""
        predicted = tuple(prediction.shape[1:])
        if self._sizes not in ((), (1,), predicted, predicted[1:], predicted[:-1]):
            raise self._labels_do_not_fit(predicted, self.enlarged(prediction, "output"))

    def _labels_do_not_fit(self, predicted: tuple[int, ...], enlarged: str = "") -> OpenQuestion:
        sizes = () if self.labels is None else tuple(self.labels.shape[1:])
        example = f", as in lambda output: {enlarged}" if enlarged else ""
        return OpenQuestion(
            f"labels of {sizes} values per sample do not fit the logits, of {predicted}: pass labels of classes "
            f"[N], or readout=..., which maps the output to a prediction that fits{example}"
        )

    def _changes_of(self, path: Path) -> Changes:
        return lambda done: self.samples.probe.changes_of_output(path, done)


def _fit(prediction: Sequence[int], labels: Sequence[int]) -> bool:
    """Return whether the axes after time and samples fit; one number may have an axis of its own, or not."""
    return tuple(prediction) == tuple(labels) or (tuple(prediction), tuple(labels)) == ((1,), ())
