"""Inference of the readout: the logits in what a network returns, and how they are read over time.

1. A readout that the caller passes is taken as it is. Otherwise the logits are the only tensor, or the one of a name.
2. Perturbations show the axis of samples. A further axis is time if late inputs change late predictions alone. What a
   layer gives is averaged over time.
3. The prediction is compared with the labels.

Values that can be read in several ways, and labels of several values, are asked about.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._utils.calls import primary
from ..method import Layout, Readout
from ..method.taps import Unfold
from .adapters import find_adapters
from .answer import Answer, OpenQuestion
from .infer_batch_axis import Samples
from .layers import is_layer
from .neurons import spiking_layers
from .outputs import Path, described, indexed, is_spikes, name_of, tensors_of
from .perturb import Changed, changed_indices
from .probe import CALL_ERRORS
from .recorder import Pass

WAYS = ("mean", "last", "max", "sum")
"""How predictions of every time step may be read."""
LOGITS_NAMES = ("logits", "output", "outputs", "out", "prediction", "predictions", "pred", "y_hat", "cls", "main")
ADVICE = "pass readout=..., which maps the network's output to logits [N, classes]"
_MAX_LISTED = 4
_CHANCE = 0.01
"""The chance that labels of all outputs leave out the last classes, below which the outputs may be no classes."""


@dataclass(frozen=True)
class Question:
    """The samples of the example, and what the caller says of labels and predictions."""

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

    def fits(self, axes: tuple[int, ...], sizes: tuple[int, ...] | None = None) -> bool:
        """Return whether labels can be compared with a prediction of these axes after that of samples."""
        sizes = self.sizes if sizes is None else sizes
        if sizes == axes or (sizes in ((), (1,)) and len(axes) < 2):
            return True
        return self.labels_are_classes and sizes == axes[1:]


def infer_readout(question: Question, readout: Callable[[Any], Any] | str | None) -> Answer[Layout]:
    """Infer the readout, or check the caller's."""
    if not isinstance(readout, str):
        how, reason = readout, "the output, as readout=None" if readout is None else "your readout=..."
    elif readout in ("auto", *WAYS):
        path, reason = _find_logits(question.samples)
        how = inferred = _over_time(question, path)
        if readout != "auto" and inferred.time_axis is not None:
            reason += f"; your readout={readout!r}"
            how = inferred if inferred.steps is None else replace(inferred, steps=readout)
    else:
        raise ValueError(f"readout must be {', '.join(map(repr, WAYS))}, 'auto', None or a function, got {readout!r}")
    tensor = _read(question, how)
    prediction = _compare_labels(question, how, tensor)
    _check_training(question, prediction)
    parts = [_compare_classes(question, prediction, tensor)]
    if readout == "auto":
        parts.append(_question_values(question, prediction, tensor))
    if any(parts):
        raise OpenQuestion(*filter(None, parts), provisional=Answer(prediction, reason))
    return Answer(prediction, reason)


def _find_logits(samples: Samples) -> tuple[Path, str]:
    """Return the path of the logits in a network's output, and how they were found."""
    output = samples.probe.base.output
    tensors = _predictions(samples)
    if not tensors:
        raise OpenQuestion(f"the network gives {described(output)}: {ADVICE}")
    if len(tensors) == 1:
        return next(iter(tensors)), "the only tensor"
    if named := [path for name in LOGITS_NAMES for path in tensors if path[-1] == name]:
        return named[0], "by its name"
    listed = [f"{name_of(path)}of shape {tuple(tensor.shape)}" for path, tensor in tensors.items()]
    first, last = (indexed(list(tensors)[index]) for index in (0, -1))
    stacked = ", torch.stack(output).mean(0) if they are time steps" if isinstance(output, list) else ""
    raise OpenQuestion(
        f"the network gives {', '.join(listed[:_MAX_LISTED])}{', ...' * (len(listed) > _MAX_LISTED)}, and any of "
        f"these may be the logits: pass readout=lambda output: {first}, or {last}; use {first}.mean(0) for "
        f"[T, N, classes], .sum(0) for spike counts, .mean(1) for [N, T, classes]{stacked}"
    )


def _predictions(samples: Samples) -> dict[Path, Tensor]:
    """Return the tensors of the output that may be predictions: those that show a sample, if any does."""
    probe = samples.probe
    tensors = {
        path: one for path, one in tensors_of(probe.base.output).items() if one.dim() and one.is_floating_point()
    }
    altered = samples.altered.values()
    show = [path for path in tensors if any(probe.changes_of_output(path, done) is not None for done in altered)]
    # A tensor of one axis may be a statistic of the whole batch.
    apart = [path for path in show if tensors[path].dim() > 1 or samples.axes_of_output(path)]
    return {path: tensors[path] for path in apart or show or tensors}


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
    dims, steps = tensor.dim(), isinstance(question.step_axis, int)
    axis = axes[0].axis if len(axes) == 1 else None
    if axis is not None and (merged := axes[0].merged):
        unfold = Unfold(len(tensor) // samples.length, 0 if merged == "time" else 1)
        return Readout(path, unfold.axis, unfold, steps=None if steps else "mean")
    if axis == 0 and (steps or dims == 2 or question.fits(tuple(tensor.shape[1:]))):
        return Readout(path)
    if axis == 0 and dims == 3 and question.labels_are_classes and question.sizes == ():

        def changes(done: Pass) -> Changed | None:
            return samples.probe.changes_of_output(path, done)

        # A sample of one class has no other axis that the input has too.
        times = [other for other in (1, 2) if samples.is_time(changes, tensor.shape, other)]
        if len(times) == 1:
            return Readout(path, times[0])
    if axis == 1 and steps:
        return Readout(path)
    if axis == 1 and (dims == 3 or (dims > 3 and question.fits(tuple(tensor.shape[2:])))):
        return Readout(path, 0)
    if question.sizes not in ((), (1,)):
        raise _misfit(question, tensor)
    name = indexed(path)
    raise OpenQuestion(
        f"{shape}, not logits [N, classes] or [T, N, classes]: pass readout="
        f"{f'lambda output: {name}' if path else 'None'} if it is [N, classes, ...] as it stands, or "
        f"readout=lambda output: {name}.mean(1) for [N, T, classes], .mean(-1) for [N, classes, T], "
        ".unsqueeze(1) for [N], .T for [classes, N]"
    )


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


def _check_training(question: Question, prediction: Layout) -> None:
    """Check that the prediction has one shape in training and evaluation."""
    output, trained = question.output, question.samples.probe.gradient_paths.output
    # An inferred readout would take the first tensor of several.
    differ = isinstance(output, Tensor) and not isinstance(trained, Tensor)
    if not (differ and isinstance(prediction.readout, Readout | None)):
        try:
            one, other = (tuple(prediction.read(each).shape) for each in (output, trained))
        except CALL_ERRORS:
            one, other = (), (0,)
        if one == other:
            return
    raise OpenQuestion(
        f"the network gives {described(trained)} in training, and {described(output)} in evaluation: pass "
        "readout=..., which maps either to logits, as in lambda output: output if isinstance(output, torch.Tensor) "
        "else output[0], or the mean of these"
    )


def _question_values(question: Question, prediction: Layout, tensor: Tensor) -> str:
    """Return the question how the values of a prediction are read; empty if there is one way."""
    how, labels = prediction.readout, question.labels
    if not isinstance(how, Readout) or how.steps is None or prediction.step_axis is not None:
        return ""
    name, classes = indexed(how.path), prediction.num_classes
    keep = f"lambda output: {name}" if how.path else "None"
    over_time = how.time_axis is not None and how.unfolded(question.output).shape[how.time_axis] > 1
    if tensor.min() < 0 or tensor.max() > 1:
        if not over_time and question.labels_are_classes and classes > 1 and torch.equal(tensor, tensor.round()):
            return (
                f"{name} holds integers: pass readout={keep} for spike counts, of which the greatest wins, or "
                f"readout=lambda output: -{name} for the times of spikes, of which the earliest wins"
            )
        if not over_time and tensor.min() >= 0 and _are_targets_of_rates(question):
            return (
                f"{name} reaches {float(tensor.max()):.3g}, and labels are 0 or 1: pass readout=lambda output: "
                f"{name} / T for rates of T time steps, or readout={keep} to keep it"
            )
        if not over_time or _is_of_layer(question, how):
            return ""
        return (
            f"{name}, of shape {tuple(how.find(question.output).shape)}, holds real values of every time step, such as "
            "membrane potentials or spike counts: pass readout='mean', 'last' (the last step), 'max' (the maximum over "
            "time), 'sum', or a function of the output"
        )
    # Rates or probabilities as targets are compared with such. One output for two classes has a loss of its own.
    if labels is None or (question.labels_are_classes and classes == 1):
        return ""
    if labels.is_floating_point() and not is_spikes(labels) and labels.min() >= 0 and labels.max() <= 1:
        return ""
    limit = ""
    if question.labels_are_classes:
        least = math.log(1 + (classes - 1) / math.e)
        limit = f", where a cross-entropy of {classes} classes cannot fall below {least:.2f}"
    if over_time:
        return (
            f"{name} holds spikes or the like of every time step, with rates between 0 and 1{limit}: pass "
            "readout='sum' for spike counts, 'mean' for rates, or a function of the output, such as potentials or "
            "the time of the first spike"
        )
    log = f"{name}.log()" if classes > 1 and bool(((tensor.sum(1) - 1).abs() < 1e-3).all()) else ""
    return (
        f"{name} lies between 0 and 1{limit}: pass readout=lambda output: "
        f"{log or f'torch.logit({name}, 1e-6)'} for logits, as after a {'softmax' if log else 'sigmoid'}; 10 * {name}, "
        f"say, for firing rates; or readout={keep} to keep it"
    )


def _are_targets_of_rates(question: Question) -> bool:
    """Return whether labels are 0 or 1 for each class, and the network has neurons, whose spikes it may count."""
    labels = question.labels
    is_one_hot = labels is not None and labels.is_floating_point() and labels.dim() > 1 and is_spikes(labels)
    return is_one_hot and bool(spiking_layers(question.samples.probe.initial))


def _is_of_layer(question: Question, how: Readout) -> bool:
    """Return whether predictions of every step are what a layer gives, which some libraries average over time."""
    probe = question.samples.probe
    averages = [adapter.averages_currents for adapter in find_adapters(probe.initial)]
    if not (averages or spiking_layers(probe.initial)) or not all(averages):
        return False
    steps = how.unfolded(question.output)
    # A layer is called for each step, or once for all, in the order of its own axes.
    forms = (steps.flatten(), steps.movedim(how.time_axis or 0, 0).flatten(), steps.transpose(0, 1).flatten())
    for name, module in nn.Module.named_modules(probe.initial):
        if is_layer(module) and name in probe.base.outputs:
            calls = [call.flatten() for call in question.samples.features(name) if isinstance(call, Tensor)]
            given = torch.cat(calls) if calls else steps.new_empty(0)
            if any(torch.equal(given, form) for form in forms):
                return True
    return False


# Labels


def _compare_labels(question: Question, readout: Callable[[Any], Any] | None, tensor: Tensor) -> Layout:
    """Return the layout of a prediction in the shape that labels have, or raise the question that remains."""
    step_axis = question.step_axis
    # Time and samples come first in predictions and labels of [T, N, ...].
    first = 2 if step_axis == 0 else 1
    sizes = tuple(tensor.shape[first:])
    labelled = None if question.labels is None else tuple(question.labels.shape[first:])
    if labelled is not None and not question.fits(sizes, labelled):
        raise _misfit(question, tensor)
    if step_axis == "auto" and (axes := _axes_of_steps(question, sizes)):
        raise OpenQuestion(
            f"labels of {question.sizes} values per sample fit predictions of {sizes}: pass "
            f"{' or '.join(f'step_axis={axis}' for axis in axes)} if that axis of the prediction is time, so that "
            "branches predict every step; or step_axis=None, so that they predict all values at once"
        )
    if isinstance(step_axis, int) and step_axis:
        steps = step_axis % tensor.dim() - 1
        sizes = sizes[:steps] + sizes[steps + 1 :]
    # Classes at positions have a branch at each. One axis of positions may be time, unless that is known.
    fewest = 2 if step_axis == 0 else 3
    at_positions = len(sizes) >= fewest and labelled in (None, sizes[1:])
    return Layout(
        readout=readout,
        num_classes=question.num_classes or (sizes[0] if sizes else 1),
        shape=sizes if len(sizes) > 1 and not at_positions else None,
        step_axis=None if step_axis == "auto" else step_axis,
    )


def _misfit(question: Question, tensor: Tensor) -> OpenQuestion:
    """Return the question for labels that cannot be compared with a prediction."""
    assert question.labels is not None
    return OpenQuestion(
        f"labels of shape {tuple(question.labels.shape)} do not fit the prediction, of {tuple(tensor.shape)}: pass "
        "labels of classes [N]; step_axis=0 for [T, N, ...] in output and labels, with readout=None if the output is a "
        "tensor; or readout=..., as in lambda output: output.transpose(1, 2), which gives [N, classes, T] with "
        "step_axis=2 for labels [N, T]"
    )


def _axes_of_steps(question: Question, sizes: tuple[int, ...]) -> list[int]:
    """Return the axes of a prediction that may be the time of labels."""
    shape, axis = primary(question.samples.probe.base.example).shape, question.samples.axis
    if question.sizes in ((), (1,)) or len(shape) < 3 or len(sizes) > 2:
        return []
    # Other lengths than those of the input are those of a forecast.
    lengths = {size for number, size in enumerate(shape) if number != axis}
    axes = (1, 2) if question.sizes == sizes else (2,)
    return [axis for axis in axes if axis <= len(sizes) and sizes[axis - 1] in lengths]


def _compare_classes(question: Question, prediction: Layout, tensor: Tensor) -> str:
    """Compare the classes in the labels with the outputs; return the question if these are more, or empty."""
    labels, step_axis = question.labels, prediction.step_axis
    first = 2 if step_axis == 0 else 1
    width = next((size for axis, size in enumerate(tensor.shape) if axis >= first and axis != step_axis), 1)
    if question.num_classes not in (None, width) and prediction.shape is None:
        raise OpenQuestion(
            f"the prediction has {width} values per sample, not num_classes={question.num_classes}: leave num_classes "
            f"out{_votes(', or pass readout=..., as in ', question, width, question.num_classes or width)}"
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
    if question.num_classes is not None or (largest / width) ** len(known) >= _CHANCE:
        return ""
    return (
        f"{len(known)} labels use {largest} of {width} outputs: pass num_classes={width} if each output is a class, or "
        f"readout=... if several outputs vote for a class{_votes(', as in ', question, width, largest)}"
    )


def _votes(words: str, question: Question, width: int, classes: int) -> str:
    """Return words and a readout that adds the votes for each class; nothing if the classes have no equal shares."""
    if width % classes:
        return ""
    mean = ".mean(0)" if isinstance(question.output, Tensor) and question.output.dim() > 2 else ""
    return f"{words}lambda output: output{mean}.unflatten(1, ({classes}, {width // classes})).sum(2)"
