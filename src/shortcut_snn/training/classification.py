"""The task of most networks: one class an image or recording."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional as F

from .. import components
from .task import Task, pair

UNLABELLED = -100
"""The label that cross-entropy leaves out."""


@components.task("classification")
class Classification(Task):
    """One class an image or recording: cross-entropy, accuracy.

    Labels are numbers of classes, integers ``[N]`` from 0, or probabilities of all classes, floats ``[N, classes]``.

    Args:
        model: see :class:`Task`, as all of ``options``.
        label_smoothing: how much of the target is spread over all classes, from 0 to below 1.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> task = Classification(nets.spiking_resnet8(2, 2, width=2), label_smoothing=0.1)
        >>> float(task.metrics(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))["accuracy"])
        0.5
    """

    metric = "accuracy"
    higher_is_better = True
    fraction = True

    def __init__(
        self, model: nn.Module, *, label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0, **options: Any
    ) -> None:
        super().__init__(model, **options)
        self.label_smoothing = label_smoothing
        self.confusion: Tensor | None = None
        """How often each class (rows) was taken for which, in the last pass over test data."""

    def describe(self, description: Mapping[str, Any]) -> None:
        """Take over what a network must know of its data, and with it how images are normalised."""
        super().describe(description)
        # Not in the checkpoint: they belong to the data.
        self.mean: Tensor | None
        self.std: Tensor | None
        for name in ("mean", "std"):
            values = self.description.get(name)
            tensor = None if values is None else torch.tensor(tuple(values)).view(-1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Turn a loader's bytes into normalised floats, on the device; what is no image of ours passes as it is.

        Images ``[N, C, H, W]`` are levels of 0 to 255. Frames ``[N, T, C, H, W]`` are counts of events, whole numbers
        or floats, and become ``[T, N, C, H, W]``.

        Raises:
            ValueError: a batch that is no pair of inputs and labels.
        """
        images, labels = pair(batch)
        if isinstance(labels, Tensor) and not labels.is_floating_point():
            labels = labels.long()
        if self.description.get("kind") == "events" and images.dim() == 5:
            images = images.transpose(0, 1).contiguous()
            if self.mean is not None and self.std is not None:
                images = (images.to(self.mean.dtype) - self.mean) / self.std
            return images, labels
        if self.mean is None or self.std is None or images.dtype != torch.uint8:
            return images, labels
        scaled = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last), labels

    def criterion(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits ``[N, classes]``, the classes smoothed.

        Raises:
            ValueError: labels that are no classes of these.
        """
        return _cross_entropy(prediction, target, self.label_smoothing)

    def evaluation_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy, unsmoothed: smoothing is a means of training.

        Raises:
            ValueError: labels that are no classes of these.
        """
        return _cross_entropy(prediction, target)

    def metrics(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the accuracy."""
        return {"accuracy": (prediction.argmax(1) == _likeliest(target)).float().mean()}

    def on_test_epoch_start(self) -> None:
        """Begin to count, besides the averages."""
        super().on_test_epoch_start()
        self.confusion = None

    def note(self, prediction: Tensor, target: Tensor) -> None:
        """Count which class was taken for which."""
        classes = prediction.shape[1]
        right, taken = _likeliest(target).flatten(), prediction.argmax(1).flatten()
        # Labels outside, as the cross-entropy's -100, are of no class.
        known = (right >= 0) & (right < classes)
        pairs = torch.bincount(classes * right[known] + taken[known], minlength=classes**2).view(classes, classes)
        self.confusion = pairs if self.confusion is None else self.confusion + pairs

    def on_test_epoch_end(self) -> None:
        """Add up what all processes counted."""
        super().on_test_epoch_end()
        if self.confusion is not None:
            self.confusion = self.sum_over_processes(self.confusion)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return ``confusion``: how often each class was taken for which."""
        if self.confusion is None:
            return {}
        known = tuple(self.description.get("classes") or ())
        names = [*known, *range(len(known), len(self.confusion))]
        found = [(*place, int(self.confusion[tuple(place)])) for place in self.confusion.nonzero().tolist()]
        return {"confusion": [{"class": names[i], "predicted": names[j], "count": count} for i, j, count in found]}

    @property
    def chance(self) -> float | None:
        """One class in so many."""
        classes = self.description.get("classes")
        return 1 / len(classes) if classes else None


def _likeliest(target: Tensor) -> Tensor:
    """Numbers of classes, of labels that may be probabilities of all."""
    return target.argmax(1) if target.is_floating_point() else target


def _cross_entropy(prediction: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    try:
        return F.cross_entropy(prediction, target, label_smoothing=smoothing)
    except (IndexError, RuntimeError, ValueError):
        # Only now: to look at every label would make an accelerator wait in every step.
        count, floats = prediction.shape[1], target.is_floating_point()
        known = target[target != UNLABELLED]
        if target.shape == (prediction.shape if floats else prediction.shape[:1]) and (
            floats or ((known >= 0) & (known < count)).all()
        ):
            raise
        least_and_most = "" if floats or not len(known) else f", {int(known.min())} to {int(known.max())}"
        raise ValueError(
            f"labels of {count} classes are integers [N] from 0 to {count - 1}, or probabilities, floats [N, {count}]; "
            f"got {str(target.dtype).removeprefix('torch.')} {list(target.shape)}{least_and_most}"
        ) from None
