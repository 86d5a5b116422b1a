"""Classification: one class per image or recording."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional as F

from .. import components
from .._utils.normalisation import normalise
from .task import Task

_IGNORED_LABEL = -100
"""The label that ``cross_entropy`` ignores."""


@components.task("classification")
class Classification(Task):
    """One class per image or recording: cross-entropy and accuracy.

    Labels are class indices, integers ``[N]``, or probabilities of all classes, floats ``[N, classes]``. Samples with
    the label -100 count neither in the loss nor in the metrics.

    Args:
        model: see :class:`Task`, like all of ``options``.
        label_smoothing: share of the target that is spread over all classes, from 0 to below 1.

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
        """Counts ``[true class, predicted class]`` of the last pass over the test data; None for many classes."""
        self._labels_are_checked = False

    def describe(self, description: Mapping[str, Any]) -> None:
        """Set what a network must know of its data, and from it how images are normalised."""
        super().describe(description)
        self.mean: Tensor | None
        self.std: Tensor | None
        for name in ("mean", "std"):
            values = self.description.get(name)
            tensor = None if values is None else torch.tensor(tuple(values)).view(-1, 1, 1)
            # Not in the checkpoint, since they belong to the data.
            self.register_buffer(name, tensor, persistent=False)

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return normalised inputs and labels.

        Images ``[N, C, H, W]`` of uint8 become normalised floats. Frames of events ``[N, T, C, H, W]`` become
        ``[T, N, C, H, W]``. Other inputs are returned as they are.

        Raises:
            ValueError: the batch is not a pair of inputs and labels, or the labels are not a tensor.
        """
        images, labels = super().prepare(batch)
        if not isinstance(labels, Tensor):
            kind = type(labels).__name__
            raise ValueError(f"a batch's labels must be a tensor, got a {kind}: return an integer with each sample")
        if not labels.is_floating_point():
            labels = labels.long()
        if self.description.get("kind") == "events" and images.dim() == 5:
            images = images.transpose(0, 1).contiguous()
            if self.mean is not None and self.std is not None:
                images = normalise(images, self.mean, self.std, "events")
            return images, labels
        if self.mean is None or self.std is None or images.dtype != torch.uint8:
            return images, labels
        images = normalise(images, self.mean, self.std, "static")
        return images.contiguous(memory_format=torch.channels_last), labels

    def criterion(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits ``[N, classes]`` with smoothed labels.

        Raises:
            ValueError: the logits or the labels do not fit the number of classes.
        """
        if not self._labels_are_checked:
            classes = len(self.description.get("classes") or ())
            if classes and classes != prediction.shape[1]:
                raise ValueError(
                    f"the network returns {prediction.shape[1]} logits, but the data have {classes} classes: give its "
                    f"last layer {classes} outputs"
                )
            # Later batches are checked only if torch refuses them, since reading labels makes a GPU wait.
            _check_labels(prediction, target)
            self._labels_are_checked = True
        return _cross_entropy(prediction, target, self.label_smoothing)

    def evaluation_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy without label smoothing."""
        return _cross_entropy(prediction, target)

    def metrics(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the accuracy over labelled samples."""
        hits = (prediction.argmax(1) == _class_indices(target)).float()
        return {"accuracy": hits.sum() / self.count_labels(target)}

    def count_labels(self, target: Tensor) -> int | Tensor:
        """Return the number of labelled samples."""
        return len(target) if target.is_floating_point() else (target != _IGNORED_LABEL).sum()

    def on_test_epoch_start(self) -> None:
        """Reset means and confusion counts."""
        super().on_test_epoch_start()
        self.confusion = None

    def record_test_batch(self, prediction: Tensor, target: Tensor) -> None:
        """Count true and predicted classes."""
        classes = prediction.shape[1]
        # The counts take 8 bytes per pair of classes.
        if classes > 2000:
            return
        true, predicted = _class_indices(target).flatten(), prediction.argmax(1).flatten()
        is_class = (true >= 0) & (true < classes)
        counts = torch.bincount(classes * true[is_class] + predicted[is_class], minlength=classes**2).view(classes, -1)
        self.confusion = counts if self.confusion is None else self.confusion + counts

    def on_test_epoch_end(self) -> None:
        """Log the means, and add up the counts of all processes."""
        super().on_test_epoch_end()
        if self.confusion is not None:
            self.confusion = self.trainer.strategy.reduce(self.confusion.clone(), reduce_op="sum")

    def test_tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return ``confusion``: how often each class was predicted for each class."""
        if self.confusion is None:
            return {}
        classes = tuple(self.description.get("classes") or ())
        names = [*classes, *range(len(classes), len(self.confusion))]
        rows = [
            {"class": names[true], "predicted": names[predicted], "count": int(self.confusion[true, predicted])}
            for true, predicted in self.confusion.nonzero().tolist()
        ]
        return {"confusion": rows}

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing: one over the number of classes."""
        classes = self.description.get("classes")
        return 1 / len(classes) if classes else None


def _class_indices(target: Tensor) -> Tensor:
    """Return class indices; of probabilities the most likely class."""
    return target.argmax(1) if target.is_floating_point() else target


def _cross_entropy(prediction: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    try:
        return F.cross_entropy(prediction, target, label_smoothing=smoothing)
    except (IndexError, RuntimeError, ValueError):
        _check_labels(prediction, target)
        raise


def _check_labels(prediction: Tensor, target: Tensor) -> None:
    count, is_float = prediction.shape[1], target.is_floating_point()
    labels = target[target != _IGNORED_LABEL]
    if is_float:
        fits = target.shape == prediction.shape and (target >= 0).all() and ((target.sum(1) - 1).abs() < 0.01).all()
    else:
        fits = target.shape == prediction.shape[:1] and ((labels >= 0) & (labels < count)).all()
    if fits:
        return
    values = "" if is_float or not len(labels) else f", {int(labels.min())} to {int(labels.max())}"
    raise ValueError(
        f"labels of {count} classes are integers [N] from 0 to {count - 1}, or probabilities of sum 1, floats "
        f"[N, {count}]; got {str(target.dtype).removeprefix('torch.')} {list(target.shape)}{values}"
    ) from None
