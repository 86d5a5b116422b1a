"""The question of a network's output, and its answer: the predictions in it, compared with the labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .._utils.calls import primary
from ..method import Layout
from .answer import OpenQuestion
from .infer_batch_axis import Samples

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


def compare_labels(question: Question, readout: Callable[[Any], Any] | None, tensor: Tensor) -> Layout:
    """Return the layout of a prediction in the shape that labels have, or raise the question that remains."""
    step_axis = question.step_axis
    # Time and samples come first in predictions and labels of [T, N, ...].
    first = 2 if step_axis == 0 else 1
    sizes = tuple(tensor.shape[first:])
    labelled = None if question.labels is None else tuple(question.labels.shape[first:])
    if labelled is not None and not question.fits(sizes, labelled):
        raise misfit(question, tensor)
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


def misfit(question: Question, tensor: Tensor) -> OpenQuestion:
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


def compare_classes(question: Question, prediction: Layout) -> str:
    """Compare the classes in the labels with the outputs; return the question if these are more, or empty."""
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
    if question.num_classes is not None or (largest / width) ** len(known) >= _CHANCE:
        return ""
    return (
        f"{len(known)} labels use {largest} of {width} outputs: pass num_classes={width} if each output is a class, or "
        f"readout=... if several outputs vote for a class, as in {_votes(question, width, largest)}"
    )


def _votes(question: Question, width: int, classes: int) -> str:
    mean = ".mean(0)" if isinstance(question.output, Tensor) and question.output.dim() > 2 else ""
    return f"lambda output: output{mean}.unflatten(1, ({classes}, {width // classes})).sum(2)"


def _width(question: Question, prediction: Layout) -> int:
    tensor = prediction.read(question.output)
    first = 2 if prediction.step_axis == 0 else 1
    sizes = [size for axis, size in enumerate(tensor.shape) if axis >= first and axis != prediction.step_axis]
    return sizes[0] if sizes else 1
