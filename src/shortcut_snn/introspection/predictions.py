"""The question of a network's output, and its answer: the predictions in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .infer_batch_axis import Samples


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

    def fits(self, axes: tuple[int, ...], sizes: tuple[int, ...] | None = None) -> bool:
        """Return whether labels can be compared with a prediction of these axes after that of samples."""
        sizes = self.sizes if sizes is None else sizes
        if sizes == axes or (sizes in ((), (1,)) and len(axes) < 2):
            return True
        return self.labels_are_classes and sizes == axes[1:]
