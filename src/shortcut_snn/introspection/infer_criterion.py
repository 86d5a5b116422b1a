"""The loss of one prediction, as the labels of the example have it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..method import Layout
from ..method.targets import Criterion, are_classes
from .answer import OpenQuestion
from .logits import is_spikes


def infer_criterion(labels: Tensor | None, layout: Layout | None) -> Criterion:
    """Return the loss of one prediction, if the labels leave no choice.

    Args:
        labels: of the example; without them the task is taken for classification.
        layout: of the network; None if it is still open, so that the answer may be right.

    Raises:
        OpenQuestion: several losses would fit.
    """
    if labels is None:
        return F.cross_entropy
    if labels.dim() == 2 and labels.shape[1] > 1 and is_spikes(labels) and bool((labels.sum(1) == 1).all()):
        raise OpenQuestion(
            "labels are one-hot: pass criterion=torch.nn.functional.cross_entropy, or "
            "criterion=torch.nn.functional.mse_loss for squared errors, as of firing rates"
        )
    if labels.is_floating_point():
        forms = [labels] if layout is None or layout.step_axis != 0 else []
        if labels.dim() > 1 and (layout is None or layout.step_axis == 0):
            forms.append(labels.flatten(0, 1))
        if any(map(are_classes, forms)):
            return F.cross_entropy
        if bool((labels < 0).any() or (labels > 1).any()):
            return F.mse_loss
    elif labels.dtype != torch.bool:
        if layout is None:
            return F.cross_entropy
        # Zeros and ones for each output are not indices of classes.
        flags = labels.shape[1:] == (layout.num_classes,) and layout.shape is None and layout.step_axis is None
        if layout.num_classes > 1 and not flags:
            return F.cross_entropy
    raise OpenQuestion(
        "these labels may be compared in several ways: pass criterion=..., such as torch.nn.functional."
        "binary_cross_entropy_with_logits for zeros and ones, or mse_loss for numbers"
    )
