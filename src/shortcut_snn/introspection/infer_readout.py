"""Inference of the readout: the logits in what a network returns, and how they are read over time.

1. A readout that the caller passes is taken as it is. Otherwise :mod:`.logits` finds the tensor.
2. Perturbations show the axes of samples and classes. A further axis is time if late inputs change late predictions
   alone. What a layer gives is averaged over time.
3. The prediction is compared with the labels: their shape, and the number of their classes.

Spikes, potentials, probabilities, and labels of several values per sample can be read in several ways. These are asked
for.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._utils.calls import primary
from ..method import Readout
from ..method.taps import Unfold, batch_of
from .adapters import adapters_of
from .answer import Answer, OpenQuestion
from .channels import axes_unlike_input, channel_axis
from .infer_batch_axis import Samples
from .layers import is_layer
from .logits import ADVICE, find_logits, is_spikes
from .outputs import Path, described, indexed, name_of, tensors_of
from .perturb import changed_indices
from .probe import CALL_ERRORS
from .recorder import named_modules

WAYS = ("mean", "last", "max", "sum")
"""How predictions of every time step may be read."""
_POPULATION_BATCH = 16
"""The number of labels from which missing classes need an explanation."""


@dataclass(frozen=True)
class Prediction:
    """The readout of a network, and the shape of its predictions.

    Args:
        readout: maps the output to predictions; None for the output itself.
        num_classes: width of the logits.
        shape: of one sample's prediction, if that has several axes.
        step_axis: the axis of time in them, if every time step has one.
    """

    readout: Callable[[Any], Any] | None
    num_classes: int
    shape: tuple[int, ...] | None = None
    step_axis: int | None = None

    def read(self, output: Any) -> Any:
        """Return the predictions in an output."""
        return output if self.readout is None else self.readout(output)


@dataclass(frozen=True)
class Question:
    """The samples and what the caller says of predictions.

    Args:
        samples: of the example.
        labels: of the example, or its targets.
        num_classes: width of the logits, if the caller gives it.
        step_axis: the axis of time in the predictions; None for one prediction per sample.
    """

    samples: Samples
    labels: Tensor | None = None
    num_classes: int | None = None
    step_axis: int | Literal["auto"] | None = "auto"

    @property
    def output(self) -> Any:
        """The output of the network in the base pass."""
        return self.samples.probe.base.output

    @property
    def sizes(self) -> tuple[int, ...]:
        """The axes of one sample's labels."""
        return () if self.labels is None else tuple(self.labels.shape[1:])

    @property
    def labels_are_classes(self) -> bool:
        """True if labels are indices of classes."""
        return self.labels is not None and not self.labels.is_floating_point() and self.labels.dtype != torch.bool


def infer_readout(question: Question, readout: Callable[[Any], Any] | str | None) -> Answer[Prediction]:
    """Infer the readout, or check the caller's.

    Raises:
        OpenQuestion: the output can be read in several ways; the message names the arguments to pass.
        ValueError: labels do not fit, or the network returns something else in training.
    """
    if not isinstance(readout, str):
        how, reason = readout, "the output, as readout=None" if readout is None else "your readout=..."
    elif readout in ("auto", *WAYS):
        path, reason = find_logits(question.samples)
        found = _over_time(question, path)
        if readout != "auto" and found.time_axis is not None:
            reason += f"; your readout={readout!r}"
            found = found if found.steps is None else replace(found, steps=readout)
        how = found
    else:
        raise ValueError(f"readout must be {', '.join(map(repr, WAYS))}, 'auto', None or a function, got {readout!r}")
    tensor = _read(question, how)
    prediction = _compared_with_labels(question, how, tensor)
    _check_training(question, prediction)
    parts = [_population(question, prediction), _other_ways(question, prediction, tensor) if readout == "auto" else ""]
    if any(parts):
        raise OpenQuestion(*filter(None, parts), provisional=Answer(prediction, reason))
    return Answer(prediction, reason)


def _read(question: Question, how: Callable[[Any], Any] | None) -> Tensor:
    """Return the predictions for the unaltered example, checked to hold samples along their own axis."""
    prediction = question.output if how is None else how(question.output)
    samples = question.samples
    axis = 1 if question.step_axis == 0 else 0
    if not isinstance(prediction, Tensor) or prediction.dim() <= axis:
        source = "the network" if how is None else "readout=..."
        raise OpenQuestion(f"{source} gives {described(prediction)}: {ADVICE}")
    for sample, done in samples.altered.items():
        indices = changed_indices(prediction, done.output if how is None else how(done.output))
        if indices is not None and not indices[axis] <= {sample}:
            raise OpenQuestion(
                f"the logits, of shape {tuple(prediction.shape)}, do not hold one sample at each index of "
                f"{'axis 1' if axis else 'their first axis'}: {ADVICE}, as in lambda output: output.mean(0) for "
                "[T, N, classes], output.mean(1) for [N, T, classes] or output.mean(-1) for [N, classes, T]"
            )
    if prediction.shape[axis] != samples.length:
        raise OpenQuestion(
            f"the network gives {prediction.shape[axis]} predictions for {samples.length} samples: {ADVICE}"
        )
    return prediction


# Which axes


def _over_time(question: Question, path: Path) -> Readout:
    """Return the readout of a tensor, reduced over its axis of time, if it has one."""
    samples, tensor = question.samples, tensors_of(question.output)[path]
    shape = f"the network gives {name_of(path)}of shape {tuple(tensor.shape)}"
    axes = samples.prefer_unmerged(samples.axes_of_output(path), tensor)
    if not axes:
        raise OpenQuestion(
            f"{shape}, and altering one sample changes others in it: pass readout=... to read an output whose samples "
            "stay apart, or a network whose samples do so in evaluation"
        )
    if len(axes) != 1 or axes[0].axis > 1:
        raise OpenQuestion(f"{shape}, whose axis of samples remains open: {ADVICE}")
    dims, batch, steps = tensor.dim(), axes[0].axis, isinstance(question.step_axis, int)
    if merged := axes[0].merged:
        unfold = Unfold(len(tensor) // samples.length, 0 if merged == "time" else 1)
        return Readout(path, unfold.axis, unfold, steps=None if steps else "mean")
    if steps or (dims == 2 and batch == 0) or (batch == 0 and _fit(question, tensor.shape[1:])):
        return Readout(path)
    if batch == 1 and (dims == 3 or (dims > 3 and _fit(question, tensor.shape[2:]))):
        return Readout(path, 0)
    if dims < 3:
        cure = "output.unsqueeze(1)" if dims == 1 else "output.T"
        raise OpenQuestion(f"{shape}, not logits [N, classes]: pass readout=lambda output: {cure}")

    def changes(done: Any) -> Any:
        return samples.probe.changes_of_output(path, done)

    classes = channel_axis(samples.probe, changes, range(1 + batch, dims))
    if dims > 3 and classes == 1 + batch:
        return Readout(path, 0 if batch else None)
    # A sample of one class has no other axis that the input has too.
    if dims == 3 and question.labels_are_classes and question.sizes == ():
        unlike = axes_unlike_input(samples, changes, tensor.shape, [1, 2])
        if len(unlike) == 1 and classes in (None, *unlike):
            return Readout(path, 3 - unlike[0])
    if question.sizes not in ((), (1,)):
        raise _do_not_fit(question, tensor)
    name = indexed(path)
    raise OpenQuestion(
        f"{shape}, not logits [N, classes] or [T, N, classes]: pass readout=lambda output: {name} if it is "
        f"[N, classes, ...] as it stands, or {name}.mean(1) for [N, T, classes], .mean(-1) for [N, classes, T]"
    )


# Labels


def _compared_with_labels(question: Question, how: Callable[[Any], Any] | None, tensor: Tensor) -> Prediction:
    """Return the prediction in the shape that labels have."""
    labels, given, step_axis = question.labels, question.num_classes, question.step_axis
    if isinstance(step_axis, int):
        # Time and samples come first in predictions and labels of [T, N, ...].
        taken = {0, 1} if step_axis == 0 else {0, step_axis % tensor.dim()}
        sizes = [size for axis, size in enumerate(tensor.shape) if axis not in taken]
        first = 2 if step_axis == 0 else 1
        if labels is not None and not _fit(question, tensor.shape[first:], tuple(labels.shape[first:])):
            raise _do_not_fit(question, tensor)
        dense = (
            labels is not None and len(sizes) > 1 and tuple(labels.shape[first:]) == tuple(tensor.shape[first + 1 :])
        )
        return Prediction(
            how,
            given or (sizes[0] if sizes else 1),
            tuple(sizes) if len(sizes) > 1 and not (dense and step_axis == 0) else None,
            step_axis,
        )
    rest = tuple(tensor.shape[1:])
    if labels is not None and not _fit(question, rest):
        raise _do_not_fit(question, tensor)
    positions = len(question.sizes) if question.sizes != (1,) else 0
    if step_axis == "auto" and (axes := list(_axes_of_steps(question, rest, positions))):
        raise OpenQuestion(
            f"labels of {question.sizes} values per sample fit predictions of {rest}: pass "
            f"{' or '.join(f'step_axis={axis}' for axis in axes)}, the axis of time in the prediction, so that "
            "branches predict every step; or step_axis=None, so that they predict all values at once"
        )
    is_map = len(rest) > 2 and (labels is None or question.sizes == rest[1:])
    width = 1 if not rest else rest[0] if len(rest) != 2 or positions else rest[-1]
    return Prediction(how, given or int(width), rest if len(rest) > 1 and not is_map else None)


def _fit(question: Question, rest: Sequence[int], sizes: tuple[int, ...] | None = None) -> bool:
    """Return whether labels can be compared with a prediction of these axes after that of samples."""
    sizes, rest = question.sizes if sizes is None else sizes, tuple(rest)
    if sizes == rest or (sizes in ((), (1,)) and len(rest) < 2):
        return True
    return question.labels_are_classes and sizes == rest[1:]


def _axes_of_steps(question: Question, rest: tuple[int, ...], positions: int) -> Iterator[int]:
    """Yield the axes of a prediction that may be the time of labels."""
    shape, axis = primary(question.samples.probe.base.example).shape, question.samples.axis
    # Other lengths than those of the input are those of a forecast.
    lengths = {size for number, size in enumerate(shape) if number != axis}
    axes = (1, 2) if question.sizes == rest else (2,)
    if positions and len(shape) > 2 and len(rest) < 3:
        yield from (axis for axis in axes if axis <= len(rest) and rest[axis - 1] in lengths)


def _do_not_fit(question: Question, tensor: Tensor) -> OpenQuestion:
    shape, labels = tuple(tensor.shape), question.labels
    assert labels is not None
    cure = _arranged(question, tensor, labels)
    return OpenQuestion(
        f"labels of shape {tuple(labels.shape)} do not fit the prediction, of {shape}: pass labels of classes [N], or "
        f"readout=..., which maps the output to a prediction that fits{cure and f', as in {cure}'}"
    )


def _arranged(question: Question, tensor: Tensor, labels: Tensor) -> str:
    """Return arguments with which a prediction fits labels; empty if there are none."""
    example, axis = tuple(primary(question.samples.probe.base.example).shape), question.samples.axis
    if axis == 1 and labels.shape[:2] == example[:2] and len(example) > 2:
        return "readout=None and step_axis=0 for [T, N, ...] in output and labels"
    sizes = tuple(labels.shape[1:])
    for order in permutations(range(tensor.dim())):
        arranged = tuple(tensor.shape[axis] for axis in order)
        if arranged[0] == question.samples.length and _fit(question, arranged[1:]) and sizes:
            steps = f", step_axis={tensor.dim() - 1}" if tensor.dim() == 3 else ""
            return f"readout=lambda output: output.permute{order}{steps}"
    is_map = len(sizes) == tensor.dim() - 2 > 1 and question.labels_are_classes
    if is_map and not any(size % least for size, least in zip(sizes, tensor.shape[2:], strict=True)):
        return f"readout=lambda output: torch.nn.functional.interpolate(output, size={sizes})"
    return ""


def _population(question: Question, prediction: Prediction) -> str:
    """Compare the classes in the labels with the outputs; return the question if these are more, or empty.

    Raises:
        OpenQuestion: ``num_classes`` is not the number of outputs.
        ValueError: labels are not among the classes.
    """
    labels, width = question.labels, _width(question, prediction)
    if question.num_classes not in (None, width) and prediction.shape is None:
        raise OpenQuestion(
            f"the prediction has {width} values per sample, not num_classes={question.num_classes}: leave num_classes "
            f"out, or pass readout=..., as in {_votes(question, width, question.num_classes or width)}"
        )
    if labels is None or not question.labels_are_classes or labels.dim() != 1 or width == 1:
        return ""
    # -100 is PyTorch's label for no class.
    known = labels[labels != -100]
    if not len(known):
        return ""
    largest = int(known.max()) + 1
    if int(known.min()) < 0 or largest > width:
        raise ValueError(
            f"labels go from {int(known.min())} to {largest - 1}, but the network predicts {width} classes, 0 to "
            f"{width - 1}: pass labels that begin at 0, or a network of more classes"
        )
    if question.num_classes is not None or len(known) < _POPULATION_BATCH or 2 * largest > width:
        return ""
    return (
        f"{len(known)} labels use {largest} of {width} outputs: pass num_classes={width} if each output is a class, or "
        f"readout=... if several outputs vote for a class, as in {_votes(question, width, largest)}"
    )


def _votes(question: Question, width: int, classes: int) -> str:
    mean = ".mean(0)" if isinstance(question.output, Tensor) and question.output.dim() > 2 else ""
    return f"lambda output: output{mean}.unflatten(1, ({classes}, {width // classes})).sum(2)"


def _width(question: Question, prediction: Prediction) -> int:
    tensor = prediction.read(question.output)
    first = 2 if prediction.step_axis == 0 else 1
    sizes = [size for axis, size in enumerate(tensor.shape) if axis >= first and axis != prediction.step_axis]
    return sizes[0] if sizes else 1


# Values


def _other_ways(question: Question, prediction: Prediction, tensor: Tensor) -> str:
    """Return the question how values are read, if there are several ways; empty if there is one."""
    how, labels = prediction.readout, question.labels
    if not isinstance(how, Readout) or how.steps is None or prediction.step_axis is not None:
        return ""
    name, classes = indexed(how.path), prediction.num_classes
    over_time = how.time_axis is not None and how.unfolded(question.output).shape[how.time_axis] > 1
    is_bounded = bool(((tensor >= 0) & (tensor <= 1)).all())
    if over_time and not is_bounded and not _is_of_layer(question, how):
        return (
            f"{name}, of shape {tuple(how.find(question.output).shape)}, holds real values of every time step, such as "
            "membrane potentials: pass readout='mean', 'last' (the last step), 'max' (the maximum over time), 'sum', "
            "or a function of the output"
        )
    if labels is None:
        return ""
    if over_time and is_bounded and labels.is_floating_point() and bool(((labels < 0) | (labels > 1)).any()):
        return (
            f"{name} holds spikes of every time step, and labels are beyond 0 to 1: pass readout='mean' for rates, "
            "'sum' for counts, or a function of the output, such as the time of the first spike"
        )
    zeros_and_ones = not question.labels_are_classes and is_spikes(labels)
    if not is_bounded or not (zeros_and_ones or (question.labels_are_classes and classes > 1)):
        return ""
    least = f"a cross-entropy of {classes} classes cannot fall below {math.log(1 + (classes - 1) / math.e):.2f}"
    if over_time:
        limit = f", where {least}" if question.labels_are_classes else ""
        return (
            f"{name} holds spikes or the like, whose rates lie between 0 and 1{limit}: pass readout='sum' for spike "
            "counts, readout='mean' for the rates as they are, or a function that returns membrane potentials"
        )
    as_they_are = "readout=None" if not how.path else f"readout=lambda output: {name}"
    if _are_multiples(tensor):
        limit = f", so that {least}" if question.labels_are_classes else ""
        return (
            f"{name} looks like firing rates, between 0 and 1{limit}: pass readout=lambda output: 10 * {name}, say, "
            f"for scaled rates, {as_they_are} for the rates as they are, or a network that returns potentials"
        )
    is_softmax = bool(((tensor.sum(1) - 1).abs() < 1e-3).all()) and classes > 1
    logits = f"{name}.log()" if is_softmax else f"torch.logit({name}, 1e-6)"
    return (
        f"{name} looks like probabilities, between 0 and 1, as after a {'softmax' if is_softmax else 'sigmoid'}: pass "
        f"readout=lambda output: {logits} for logits, which losses of logits take, or {as_they_are} to keep them"
    )


def _is_of_layer(question: Question, how: Readout) -> bool:
    """Return whether predictions of every step are what a layer gives, which libraries average over time."""
    probe = question.samples.probe
    averages = all(adapter.averages_currents for adapter in adapters_of(probe.initial))
    # A recurrent layer is often read at the last step.
    recurrent = nn.RNNBase | nn.RNNCellBase
    if not averages or any(isinstance(module, recurrent) for module in nn.Module.modules(probe.initial)):
        return False
    with batch_of(question.samples.length):
        steps = how.unfolded(question.output)
    # A layer is called for each step, or once for all, in the order of its own axes.
    forms = (steps.flatten(), steps.movedim(how.time_axis or 0, 0).flatten(), steps.transpose(0, 1).flatten())
    for name, module in named_modules(probe.initial):
        if is_layer(module) and name in probe.base.outputs:
            calls = [call.flatten() for call in question.samples.features(name) if isinstance(call, Tensor)]
            given = torch.cat(calls) if calls else steps.new_empty(0)
            if any(torch.equal(given, form) for form in forms):
                return True
    return False


def _are_multiples(tensor: Tensor) -> bool:
    """Return whether all values are multiples of one, as the mean of spikes over a few time steps is."""
    levels = torch.unique(tensor.detach().double())
    if len(levels) < 3:
        return True
    multiples = levels / levels.diff().min()
    return bool(((multiples - multiples.round()).abs() < 0.01).all()) and bool(multiples.max() < 1e4)


def _check_training(question: Question, prediction: Prediction) -> None:
    """Check that the prediction has one shape in training and evaluation."""
    trained, advice = question.samples.probe.gradient_paths.output, "pass readout=..., which maps either to logits"
    if (
        isinstance(question.output, Tensor)
        and not isinstance(trained, Tensor)
        and isinstance(prediction.readout, Readout | None)
    ):
        raise OpenQuestion(
            f"the network gives {described(trained)} in training, and a tensor in evaluation: {advice}, as in "
            "lambda output: output if isinstance(output, torch.Tensor) else output[0], or the mean of these"
        )
    try:
        expected, shape = (tuple(prediction.read(output).shape) for output in (question.output, trained))
    except CALL_ERRORS as error:
        raise ValueError(f"{error}; this is so in training alone") from error
    if shape != expected:
        raise ValueError(
            f"the network gives logits of shape {shape} in training and {expected} in evaluation: {advice}"
        )
