"""Inference of the readout: the logits in what a network returns, and the axes over which they are averaged.

1. A readout that the caller passes is taken as it is.
2. Labels of several axes, such as ``[N, steps, variables]`` or ``[N, *space]``, tell the prediction by its shape (see
   :mod:`.find_by_labels`).
3. Otherwise the logits are found among the tensors of the output, by name, width, and the layer they come from (see
   :mod:`.find_logits`). Then the axes of samples and classes are inferred, and the remaining axis, if it is time, is
   averaged over. How potentials are read over time is asked for (see :mod:`.potentials`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from .._utils.calls import primary
from ..method import Readout, TimeLoop, Unfold, entries, tensor_in
from .answer import Answer, OpenQuestion
from .channels import axes_unlike_input, channel_axis
from .find_by_labels import LabelsSearch, Prediction
from .find_logits import ADVICE
from .gradient_paths import weights_of
from .layers import is_layer, with_first
from .outputs import Path, described, indexed, name_of, tensors_of
from .perturb import changed_indices
from .potentials import without_convention
from .probe import CALL_ERRORS
from .recorder import named_modules


@dataclass
class ReadoutInference(LabelsSearch):
    """The inference of the readout."""

    time_axis: Any

    def infer(self, readout: Callable[[Any], Any] | str | None) -> Answer[Prediction]:
        """Infer the readout, or check the caller's."""
        answer = self._infer(readout)
        self._check_labels(answer.value.num_classes)
        self._check_training(answer.value)
        how = answer.value.readout
        if not isinstance(readout, str) or not isinstance(how, Readout) or how.time_axis is None:
            return answer
        if readout != "auto" and how.steps == "mean":
            reduced = replace(answer.value, readout=replace(how, steps=readout))
            return Answer(reduced, f"{answer.reason}; your readout={readout!r}")
        if how.steps == "mean" and (kind := without_convention(self.samples, how, self.labels)):
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
