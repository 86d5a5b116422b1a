"""Targets of a batch, and the losses that compare predictions with them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Criterion = Callable[[Tensor, Any], Tensor]
"""``(prediction, target) -> scalar``."""


def are_classes(labels: Tensor) -> bool:
    """Return whether labels are indices or probabilities of classes, as a cross-entropy takes them."""
    if not labels.is_floating_point():
        return True
    if labels.dim() < 2 or labels.shape[1] < 2 or bool((labels < 0).any()):
        return False
    # Probabilities of 16 bits are rounded.
    return torch.allclose(total := labels.sum(1), torch.ones_like(total), atol=1e-2)


def in_shape_of(output: Tensor, targets: Tensor) -> Tensor:
    """Return targets in the shape of an output, or raise ``ValueError`` where a loss would broadcast one of the two.

    If each sample has one number, its axis is optional.
    """
    shape = tuple(output.shape)
    if targets.shape not in (shape, shape[:-1], (*shape, 1)) or targets.numel() != output.numel():
        are_indices = targets.dim() == 1 and bool((targets == targets.round()).all())
        remedy = "; indices of classes must be integers, as in targets.long()" if are_indices else ""
        raise ValueError(f"targets {list(targets.shape)} do not fit the output {list(shape)}{remedy}")
    return targets.reshape(shape)


def default_loss(output: Any, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits ``[N, classes]``, or the squared error for targets that are not classes."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got a {type(labels).__name__}; other labels need loss=...")
    if are_classes(labels):
        check_classes(output, labels)
        return F.cross_entropy(output, labels if labels.is_floating_point() else labels.long())
    try:
        return F.mse_loss(output, in_shape_of(output, labels))
    except ValueError as error:
        raise ValueError(f"{error}; for other targets pass loss=...") from error


def check_classes(output: Tensor, labels: Tensor) -> None:
    """Raise ``ValueError`` if indices of classes lie outside of an output ``[N, classes, ...]``."""
    if labels.is_floating_point() or output.dim() < 2 or not labels.numel():
        return
    lowest, highest = labels.min().item(), labels.max().item()
    # A cross-entropy ignores labels of -100.
    if highest >= output.shape[1] or lowest not in (-100, *range(output.shape[1])):
        raise ValueError(
            f"labels lie from {lowest} to {highest}, but the output has width {output.shape[1]}: count classes from 0, "
            "or pass the loss of such labels"
        )
    if labels.dim() != output.dim() - 1:
        raise ValueError(
            f"labels {list(labels.shape)} do not fit the output {list(output.shape)}: pass one class for each sample, "
            "as in labels.flatten()"
        )


def refuse_broadcasting(criterion: Criterion) -> Criterion:
    """Return a loss of PyTorch's that never broadcasts its targets; another loss as it is."""
    module = str(getattr(criterion, "__module__", ""))
    return partial(_compare, criterion) if module.startswith("torch.nn.") else criterion


def _compare(criterion: Criterion, prediction: Tensor, target: Tensor) -> Tensor:
    # Indices of classes have fewer elements than the logits.
    is_number = target.is_floating_point() or target.numel() == prediction.numel()
    return criterion(prediction, in_shape_of(prediction, target) if is_number else target)
