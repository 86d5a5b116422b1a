"""Inference of the readout: the logits in what a network returns, and the axes over which they are averaged.

1. A readout that the caller passes is taken as it is.
2. Labels of several axes, such as ``[N, steps, variables]`` or ``[N, *space]``, tell the prediction by its shape.
3. Otherwise the logits are found among the tensors of the output, by name, width, and the layer they come from (see
   :mod:`.find_logits`). Then the axes of samples and classes are inferred, and the remaining axis, if it is time, is
   averaged over. How potentials are read over time is asked for (see :mod:`.potentials`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..method import Readout, TimeLoop, Unfold, entries, primary, tensor_in
from .answer import Answer, OpenQuestion
from .channels import Changes, axes_unlike_input, channel_axis, follows_time
from .find_logits import ADVICE, LogitsSearch
from .gradient_paths import weights_of
from .layers import is_layer, with_first
from .outputs import Path, described, indexed, name_of, tensors_of
from .perturb import changed_indices
from .potentials import without_convention
from .probe import CALL_ERRORS
from .recorder import named_modules


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
class ReadoutInference(LogitsSearch):
    """The inference of the readout. With ``time_first``, labels are those of every time step, ``[T, N, ...]``."""

    time_axis: Any
    time_first: bool

    def infer(self, readout: Callable[[Any], Any] | str | None) -> Answer[Prediction]:
        """Infer the readout, or check the caller's."""
        answer = self._infer(readout)
        self._check_labels(answer.value.num_classes)
        self._check_training(answer.value)
        how = answer.value.readout
        if not isinstance(readout, str) or not isinstance(how, Readout) or how.time_axis is None:
            return answer
        if readout != "auto" and how.reduction == "mean":
            reduced = replace(answer.value, readout=replace(how, reduction=readout))
            return Answer(reduced, f"{answer.reason}; your readout={readout!r}")
        if how.reduction == "mean" and (kind := without_convention(self.samples, how, self.labels)):
            raise OpenQuestion(
                f"{indexed(how.path)}, of shape {tuple(how.find(self.output).shape)}, holds {kind} of every time step, "
                "which may be read in several ways: pass readout='mean', readout='last' for the last step, "
                "readout='max' for the maximum over time, or a function of the output",
                provisional=answer,
            )
        return answer

    def _check_training(self, prediction: Prediction) -> None:
        """Check that the prediction has one shape in training and evaluation, and lacks no weights in training."""
        probe = self.samples.probe
        trained, advice = probe.gradient_paths.output, "pass readout=..., which maps either to logits [N, classes]"
        try:
            expected, shape = (tuple(prediction.read(output).shape) for output in (self.output, trained))
        except CALL_ERRORS as error:
            raise ValueError(f"{error}; this is so in training alone") from error
        if shape != expected:
            raise ValueError(
                f"the network gives logits of shape {shape} in training and {expected} in evaluation: {advice}"
            )
        readout = prediction.readout
        if isinstance(readout, Readout) and isinstance(self.output, Tensor) and not isinstance(trained, Tensor):
            evaluated = probe.pass_with_graph(probe.fresh(), lambda *call: None)
            unread = weights_of(evaluated.output) - weights_of(readout(trained))
            if not unread.isdisjoint(map(id, nn.Module.parameters(probe.initial))):
                raise ValueError(
                    f"the network gives {described(trained)} in training, and one tensor made of more than the first "
                    f"of these in evaluation: {advice}, as in lambda output: output if isinstance(output, "
                    "torch.Tensor) else (output[0] + output[1]) / 2"
                )

    def _infer(self, readout: Callable[[Any], Any] | str | None) -> Answer[Prediction]:
        if isinstance(readout, str) and readout not in ("auto", "mean", "last", "max"):
            raise ValueError(f"readout must be 'mean', 'last', 'max', 'auto', None or a function, got {readout!r}")
        if not isinstance(readout, str):
            return self._prediction(readout, "the output, as readout=None" if readout is None else "your readout=...")
        fitting = self._predictions_fitting_labels()
        if len(fitting) == 1:
            self._read(fitting[0])
            return Answer(fitting[0], "its shape is that of the labels")
        logits, reason = self._infer_logits()
        prediction = self._read(Prediction(logits, 0))
        if len(prediction) != self.samples.length:
            raise OpenQuestion(
                f"the network gives {len(prediction)} predictions for {self.samples.length} samples: {ADVICE}"
            )
        self._check_shape_of_labels(prediction)
        width = 1 if prediction.dim() == 1 else prediction.shape[1 if prediction.dim() > 2 else -1]
        return Answer(Prediction(logits, self.num_classes or int(width)), reason)

    def _prediction(self, readout: Callable[[Any], Any] | None, reason: str) -> Answer[Prediction]:
        """Return the answer for a readout that need not give logits."""
        asked = Prediction(readout, 0, step_axis=0 if self.time_first else None)
        prediction = self._read(asked)
        if self.time_first:
            name = "readout(output)" if readout else "output"
            steps = self._prediction_of_steps(prediction, readout, name, sure=readout is not None)
            if steps is None:
                raise self._labels_do_not_fit(tuple(prediction.shape[1:]))
            return Answer(steps, reason)
        self._check_shape_of_labels(prediction)
        dims, axis, shape = prediction.dim(), 1 if prediction.dim() > 3 else -1, None
        if dims == 3:
            # Steps and variables of a forecast, say.
            shape = tuple(prediction.shape[1:])
            sizes = self._sizes
            classes = channel_axis(
                self.samples.probe, lambda done: changed_indices(prediction, asked.read(done.output)), [1, 2]
            )
            if len(sizes) == 1 and shape[0] != shape[1]:
                classes = 1 if sizes == shape[1:] else 2
            axis = axis if classes is None else classes
        width = 1 if dims == 1 else prediction.shape[axis]
        whole = Prediction(readout, self.num_classes or int(width), shape)
        return Answer(self._of_steps(whole, [3 - axis % 3] if dims == 3 else []), reason)

    def _read(self, how: Prediction) -> Tensor:
        """Return the predictions for the unaltered example, checked to hold samples along their own axis."""
        prediction = how.read(self.output)
        if not isinstance(prediction, Tensor) or not prediction.dim():
            source = "the network" if how.readout is None else "readout=..."
            raise OpenQuestion(f"{source} gives {described(prediction)}: {ADVICE}")
        for sample, done in self.samples.altered.items():
            indices = changed_indices(prediction, how.read(done.output))
            if indices is not None and not indices[1 if how.step_axis == 0 else 0] <= {sample}:
                raise OpenQuestion(
                    f"the logits, of shape {tuple(prediction.shape)}, do not hold one sample at each index of their "
                    f"first axis: {ADVICE}, as in lambda output: output.mean(0) for [T, N, classes], output.mean(1) "
                    "for [N, T, classes] or output.mean(-1) for [N, classes, T]"
                )
        return prediction

    # By the shape of the labels

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
        readout, sizes, full = Readout(path, 0, reduction="second"), self._sizes, tuple(labels.shape[1:])
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

    # By the tensors of the output

    def _infer_logits(self) -> tuple[Readout, str]:
        """Return the readout of the logits, averaged over time, and the reason."""
        output = self.output
        lists = {(): output, **{(key,): value for key, value in entries(output).items()}}
        for path, value in lists.items():
            if isinstance(value, list) and self._is_list_of_steps(path, value):
                return Readout(path, 0, listed=True), "each entry depends on the time steps so far"
        path, reason = self.path()
        tensor = tensors_of(output)[path]
        shape = f"the network gives {name_of(path)}of shape {tuple(tensor.shape)}"
        axes = self.samples.prefer_unmerged(self.samples.axes_of_output(path), tensor)
        if not axes:
            raise OpenQuestion(
                f"{shape}, and altering one sample changes others in it: pass readout=... to read an output whose "
                "samples stay apart, or a network whose samples do so in evaluation"
            )
        if len(axes) != 1 or axes[0].axis > 1:
            raise OpenQuestion(f"{shape}, whose axis of samples remains open: {ADVICE}")
        (found,) = axes
        dims, batch, unfold = tensor.dim(), found.axis, None
        if found.merged:
            unfold = Unfold(self.samples.total_steps(len(tensor)), 0 if found.merged == "time" else 1)
            dims, batch = dims + 1, 1 - unfold.axis
        if dims == 1 or (dims == 2 and batch == 1) or dims > 5:
            cure = {1: "lambda output: output.unsqueeze(1)", 2: "lambda output: output.T"}.get(dims, "...")
            raise OpenQuestion(f"{shape}, not logits [N, classes] or [T, N, classes]: pass readout={cure}")
        if dims == 2:
            return Readout(path), reason
        if unfold is not None or (dims == 3 and batch == 1):
            return Readout(path, 1 - batch, unfold), reason
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
        if dims == 3 and classes is not None:
            is_time = tensor.shape[3 - classes] in self._time_lengths()
            if not is_time and self.classes_of_labels():
                # A sample has one class, whatever the axis of the input that the other one is.
                is_time = axes_unlike_input(self.samples, self._changes_of(path), tensor.shape, [1, 2]) == [classes]
            if is_time:
                return Readout(path, 3 - classes), reason
        if dims == 5 and classes == 2:
            return Readout(path, 1), reason
        raise OpenQuestion(
            f"{shape}, not logits [N, classes] or [T, N, classes]: pass readout=lambda output: {indexed(path)} if it "
            f"is [N, classes, ...] as it stands, or {indexed(path)}.mean(1) for [N, T, classes], .mean(-1) for "
            "[N, classes, T]"
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
        fitting = [axis for axis in (1, 2) if tensor.shape[axis] == self.classes_of_labels()]
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


def _fit(prediction: Sequence[int], labels: Sequence[int]) -> bool:
    """Return whether the axes after time and samples fit; one number may have an axis of its own, or not."""
    return tuple(prediction) == tuple(labels) or (tuple(prediction), tuple(labels)) == ((1,), ())
