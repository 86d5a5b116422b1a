"""Inference of the readout: the logits in what a network returns, and the axes over which they are averaged.

1. A readout that the caller passes is taken as it is.
2. Labels of several axes, such as ``[N, steps, variables]`` or ``[N, *space]``, tell the prediction by its shape.
3. Otherwise the logits are found among the tensors of the output, by name, width, and the layer they come from (see
   :mod:`.find_logits`). Then the axes of samples and classes are inferred, and the remaining axis, if it is time, is
   averaged over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..method import Readout, TimeLoop, Unfold, entries, primary, tensor_in
from .answer import Answer
from .channels import Changes, axes_unlike_input, channel_axis
from .find_logits import ADVICE, LogitsSearch
from .gradient_paths import weights_of
from .infer_batch_axis import Samples
from .layers import is_layer, with_first
from .outputs import Path, described, indexed, name_of, tensors_of
from .perturb import changed_indices
from .probe import CALL_ERRORS
from .recorder import named_modules


@dataclass(frozen=True)
class Prediction:
    """The readout of a network, and the shape of its predictions.

    Args:
        readout: maps the output to predictions; None for the output itself.
        num_classes: width of the logits.
        shape: of one sample's prediction, if that is not logits.
        every_step: whether the readout gives predictions of every time step, ``[T, N, classes]``.
    """

    readout: Callable[[Any], Any] | None
    num_classes: int
    shape: tuple[int, ...] | None = None
    every_step: bool = False


def infer_readout(
    samples: Samples,
    readout: Callable[[Any], Any] | str | None,
    *,
    labels: Tensor | None,
    num_classes: int | None,
    time_axis: Any,
    time_first: bool = False,
) -> Answer[Prediction]:
    """Infer the readout.

    The other arguments are those of :func:`shortcut_snn.attach`.

    Args:
        samples: of the example.
        time_first: whether the labels are those of every time step, ``[T, N, ...]``.

    Raises:
        ValueError: the readout remains open, or gives no logits; the message names the argument to pass.
    """
    return _ReadoutInference(samples, labels, num_classes, time_axis, time_first).infer(readout)


@dataclass
class _ReadoutInference:
    """The facts that the inference shares, and its steps."""

    samples: Samples
    labels: Tensor | None
    num_classes: int | None
    time_axis: Any
    time_first: bool

    @property
    def output(self) -> Any:
        return self.samples.probe.base.output

    @property
    def search(self) -> LogitsSearch:
        return LogitsSearch(self.samples, self.labels, self.num_classes)

    def infer(self, readout: Callable[[Any], Any] | str | None) -> Answer[Prediction]:
        answer = self._infer(readout)
        self._check_labels(answer.value.num_classes)
        self._check_training(answer.value.readout)
        return answer

    def _check_training(self, readout: Callable[[Any], Any] | None) -> None:
        """Check that the prediction has one shape in training and evaluation, and lacks no weights in training."""
        probe = self.samples.probe
        trained, advice = probe.gradient_paths.output, "pass readout=..., which maps either to logits [N, classes]"
        try:
            expected, shape = (tuple(_apply(readout, output).shape) for output in (self.output, trained))
        except CALL_ERRORS as error:
            raise ValueError(f"{error}; this is so in training alone") from error
        if shape != expected:
            raise ValueError(
                f"the network gives logits of shape {shape} in training and {expected} in evaluation: {advice}"
            )
        if isinstance(readout, Readout) and isinstance(self.output, Tensor) and not isinstance(trained, Tensor):
            unread = weights_of(probe.output_with_graph()) - weights_of(readout(trained))
            if not unread.isdisjoint(map(id, nn.Module.parameters(probe.initial))):
                raise ValueError(
                    f"the network gives {described(trained)} in training, and one tensor made of more than the first "
                    f"of these in evaluation: {advice}, as in lambda output: output if isinstance(output, "
                    "torch.Tensor) else (output[0] + output[1]) / 2"
                )

    def _infer(self, readout: Callable[[Any], Any] | str | None) -> Answer[Prediction]:
        if not isinstance(readout, str):
            return self._prediction(readout, "the output, as readout=None" if readout is None else "your readout=...")
        fitting = self._predictions_fitting_labels()
        if len(fitting) == 1:
            self._read(fitting[0].readout, fitting[0].every_step)
            return Answer(fitting[0], "its shape is that of the labels")
        logits, reason = self._infer_logits()
        prediction = self._read(logits)
        if len(prediction) != self.samples.length:
            raise ValueError(
                f"the network gives {len(prediction)} predictions for {self.samples.length} samples: {ADVICE}"
            )
        self._check_shape_of_labels(prediction)
        width = 1 if prediction.dim() == 1 else prediction.shape[1 if prediction.dim() > 2 else -1]
        return Answer(Prediction(logits, self.num_classes or int(width)), reason)

    def _prediction(self, readout: Callable[[Any], Any] | None, reason: str) -> Answer[Prediction]:
        """Return the answer for a readout that need not give logits."""
        prediction = self._read(readout, self.time_first)
        if self.time_first:
            width = self._width_of_steps(prediction, "readout(output)" if readout else "output", sure=readout)
            if not width:
                raise self._labels_do_not_fit(tuple(prediction.shape[1:]))
            return Answer(Prediction(readout, self.num_classes or width, every_step=True), reason)
        self._check_shape_of_labels(prediction)
        axis, shape = 1 if prediction.dim() > 3 else -1, None
        if prediction.dim() == 3:
            # Steps and variables of a forecast, say.
            classes = channel_axis(
                self.samples.probe, lambda done: changed_indices(prediction, _apply(readout, done.output)), [1, 2]
            )
            axis, shape = axis if classes is None else classes, tuple(prediction.shape[1:])
        width = 1 if prediction.dim() == 1 else prediction.shape[axis]
        return Answer(Prediction(readout, self.num_classes or int(width), shape), reason)

    def _read(self, readout: Callable[[Any], Any] | None, every_step: bool = False) -> Tensor:
        """Return the predictions for the unaltered example, checked to hold samples along their own axis."""
        prediction = _apply(readout, self.output)
        if not isinstance(prediction, Tensor) or not prediction.dim():
            source = "the network" if readout is None else "readout=..."
            raise ValueError(f"{source} gives {described(prediction)}: {ADVICE}")
        for sample, done in self.samples.altered.items():
            indices = changed_indices(prediction, _apply(readout, done.output))
            if indices is not None and not indices[1 if every_step else 0] <= {sample} and not self.samples.mixing:
                raise ValueError(
                    f"the logits, of shape {tuple(prediction.shape)}, do not hold one sample at each index of their "
                    f"first axis: {ADVICE}, as in lambda output: output.mean(0) for [T, N, classes] or "
                    "output.mean(1) for [N, T, classes]"
                )
        return prediction

    # By the shape of the labels

    def _predictions_fitting_labels(self) -> list[Prediction]:
        """Return the predictions that fit labels of several axes, as they stand or averaged over time.

        Numbers ``[N, ...]`` fit a prediction of their shape. Classes ``[N, *positions]`` fit ``[N, classes,
        *positions]`` and ``[N, *positions, classes]``, or else, as labels that exclude no other, their own shape.
        """
        if self.labels is None or self.labels.dim() < 2:
            return []
        sizes, numbers, classes = tuple(self.labels.shape[1:]), list[Prediction](), list[Prediction]()
        tensors = self.search.tensors()
        # Numbers have the shape of what they are compared with, which hidden spikes of the width of classes may have.
        for path, tensor in (
            tensors if self.labels.is_floating_point() else self.search.without_others(tensors)
        ).items():
            axes = self.samples.prefer_unmerged(self.samples.axes_of_output(path), tensor)
            batch = next((one.axis for one in axes if not one.merged), 2)
            if self.time_first:
                width = self._width_of_steps(tensor, indexed(path)) if batch == 1 else 0
                if width:
                    numbers.append(Prediction(Readout(path), self.num_classes or width, every_step=True))
                continue
            for time in (None, 1 - batch):
                if (batch == 0 or time == 0) and tensor.dim() > batch:
                    rest = tuple(tensor.shape[1 if time is None else 2 :])
                    if rest == sizes:
                        shape = sizes if len(sizes) > 1 else None
                        numbers.append(Prediction(Readout(path, time), self.num_classes or sizes[0], shape))
                    elif sizes in (rest[1:], rest[:-1]) and not self.labels.is_floating_point():
                        classes.append(self._prediction_of_classes(path, time, rest, sizes))
        return classes or numbers

    def _width_of_steps(self, prediction: Tensor, name: str, sure: Any = None) -> int:
        """Return the number of classes or values in predictions ``[T, N, classes, *positions]``; 0 if none fits.

        Raises:
            ValueError: the classes come last; or may, in a network with as many positions, if the caller is not sure.
        """
        assert self.labels is not None
        shape, sizes = tuple(prediction.shape[2:]), tuple(self.labels.shape[2:])
        if self.labels.is_floating_point() or sizes == shape:
            # A head has no output for each of two axes, as (anchors, corners), at every time step.
            return shape[0] if sizes == shape and len(shape) != 2 else 0
        fits = sizes == shape[1:]
        if sizes and sizes == shape[:-1] and not (fits and sure):
            raise ValueError(
                f"labels [T, N, positions] need predictions [T, N, classes, positions], and {name} has shape "
                f"{tuple(prediction.shape)}: pass readout=..., as in lambda output: {name}.movedim(-1, 2)"
            )
        return shape[0] if fits else 0

    def _prediction_of_classes(
        self, path: Path, time: int | None, rest: tuple[int, ...], sizes: tuple[int, ...]
    ) -> Prediction:
        """Return the prediction of a class at every position, with the classes in its second axis."""
        first, last = (1, len(rest)) if time is None else (2, len(rest) + 1)
        classes = first if rest[1:] == sizes else last
        if rest[1:] == rest[:-1]:
            classes = channel_axis(self.samples.probe, self._changes_of(path), (first, last)) or first
        width = rest[0] if classes == first else rest[-1]
        moved = None if classes == first else -1
        return Prediction(Readout(path, time, class_axis=moved), self.num_classes or width)

    def _check_labels(self, classes: int) -> None:
        """Check that labels that are indices of classes are among those that the network predicts."""
        largest = self.search.classes_of_labels()
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
        sizes = () if self.labels is None else tuple(self.labels.shape[1:])
        if sizes not in ((), (1,), predicted, predicted[1:], predicted[:-1]):
            raise self._labels_do_not_fit(predicted)

    def _labels_do_not_fit(self, predicted: tuple[int, ...]) -> ValueError:
        sizes = () if self.labels is None else tuple(self.labels.shape[1:])
        return ValueError(
            f"labels of {sizes} values per sample do not fit the logits, of {predicted}: pass labels of classes "
            "[N], or readout=..., which maps the output to a prediction that fits"
        )

    # By the tensors of the output

    def _infer_logits(self) -> tuple[Readout, str]:
        """Return the readout of the logits, averaged over time, and the reason."""
        output = self.output
        lists = {(): output, **{(key,): value for key, value in entries(output).items()}}
        for path, value in lists.items():
            if isinstance(value, list) and self._is_list_of_steps(path, value):
                return Readout(path, 0, listed=True), "each entry depends on the time steps so far"
        path, reason = self.search.path()
        tensor = tensors_of(output)[path]
        shape = f"the network gives {name_of(path)}of shape {tuple(tensor.shape)}"
        axes = self.samples.prefer_unmerged(self.samples.axes_of_output(path), tensor)
        if not axes:
            raise ValueError(
                f"{shape}, and altering one sample changes others in it: pass readout=... to read an output whose "
                "samples stay apart, or a network whose samples do so in evaluation"
            )
        if len(axes) != 1 or axes[0].axis > 1:
            raise ValueError(f"{shape}, whose axis of samples remains open: {ADVICE}")
        (found,) = axes
        dims, batch, unfold = tensor.dim(), found.axis, None
        if found.merged:
            unfold = Unfold(self.samples.total_steps(len(tensor)), 0 if found.merged == "time" else 1)
            dims, batch = dims + 1, 1 - unfold.axis
        if dims == 1 or (dims == 2 and batch == 1) or dims > 5:
            cure = {1: "lambda output: output.unsqueeze(1)", 2: "lambda output: output.T"}.get(dims, "...")
            raise ValueError(f"{shape}, not logits [N, classes] or [T, N, classes]: pass readout={cure}")
        if dims == 2:
            return Readout(path), reason
        if unfold is not None or (dims == 3 and batch == 1):
            return Readout(path, 1 - batch, unfold), f"{reason}, averaged over time"
        return self._infer_class_axis(path, tensor, batch, reason, shape)

    def _infer_class_axis(self, path: Path, tensor: Tensor, batch: int, reason: str, shape: str) -> tuple[Readout, str]:
        """Return the readout of a tensor of three axes or more: which are classes, time and space?"""
        dims, first = tensor.dim(), 1 + batch
        classes = channel_axis(self.samples.probe, self._changes_of(path), range(first, dims))
        if dims > 3 and (classes == first or (batch == 1 and dims == 5 and classes is None)):
            return Readout(path, 0 if batch else None), f"{reason}, with a prediction at every position"
        if classes is None and dims == 3:
            classes = self._class_axis_by_length(path, tensor)
        # The axis to average over has to be time, so it has a length that time has elsewhere.
        if dims == 3 and classes is not None and tensor.shape[3 - classes] in self._time_lengths():
            return Readout(path, 3 - classes), f"{reason}, averaged over time"
        if dims == 5 and classes == 2:
            return Readout(path, 1), f"{reason}, averaged over time"
        raise ValueError(
            f"{shape}, not logits [N, classes] or [T, N, classes]: {ADVICE}, as in lambda output: output.mean(1) for "
            f"[N, T, classes], or readout=lambda output: {indexed(path)} if it is [N, classes, ...] as it stands"
        )

    def _time_lengths(self) -> set[int]:
        """Return the numbers of time steps that occur: in the input, in modules, and in calls."""
        probe, samples = self.samples.probe, self.samples
        shape, loop = primary(probe.base.example).shape, probe.run
        lengths = {event.calls for event in probe.base.events.values()} - {1}
        if isinstance(loop, TimeLoop):
            lengths.add(loop.steps or shape[loop.axis])
        elif samples.axis == 0 and len(shape) > 2:
            lengths.add(shape[1])
        for name, event in probe.base.events.items():
            axes = samples.axes_of_module(name) if name and event.shape else None
            if axes and event.shape and len({found.axis for found in axes}) == 1:
                if axes[0].merged:
                    lengths.add(event.shape[axes[0].axis] // samples.length)
                elif axes[0].axis == 1 or (axes[0].axis == 0 and len(event.shape) > 4 and loop is None):
                    lengths.add(event.shape[1 - axes[0].axis])
        return lengths

    def _class_axis_by_length(self, path: Path, tensor: Tensor) -> int | None:
        if self.time_axis == 1:
            return 2
        fitting = [axis for axis in (1, 2) if tensor.shape[axis] == self.search.classes_of_labels()]
        if len(fitting) != 1:
            fitting = axes_unlike_input(self.samples, self._changes_of(path), tensor.shape, [1, 2])
        return fitting[0] if len(fitting) == 1 else None

    def _changes_of(self, path: Path) -> Changes:
        return lambda done: self.samples.probe.changes_of_output(path, done)

    def _is_list_of_steps(self, path: Path, output: list[Any]) -> bool:
        """Return whether a list holds ``[N, classes]`` of each time step: the last step changes the last entry alone.

        The steps are the calls of the last layer or, if it is called once for all, those of the example.
        """
        if {getattr(entry, "ndim", 0) for entry in output} != {2} or (*path, 0) not in tensors_of(self.output):
            return False
        probe, steps = self.samples.probe, len(output)
        modules, events = dict(named_modules(probe.initial)), probe.base.events
        layers = [name for name, event in events.items() if event.shape is not None and is_layer(modules[name])]
        shape, time = primary(probe.base.example).shape, 1 - self.samples.axis
        if layers and events[layers[-1]].calls == steps:
            left = steps

            def change_last_call(name: str, module: nn.Module, output: Any) -> Any:
                nonlocal left
                left -= name == layers[-1]
                tensor = tensor_in(output) if name == layers[-1] and not left else None
                return None if tensor is None else with_first(output, -10 * tensor - 10)

            done = probe.observe(edit=change_last_call)
        elif len(shape) > 2 and shape[time] == steps:
            done = probe.altered(time, steps - 1)
        else:
            return False
        return [step for step in range(steps) if probe.changes_of_output((*path, step), done)] == [steps - 1]


def _apply(readout: Callable[[Any], Any] | None, output: Any) -> Any:
    return output if readout is None else readout(output)
