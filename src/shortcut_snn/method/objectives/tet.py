"""Temporal efficient training: a cross-entropy at every time step, not one of the mean over time."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..output import ShortcutOutput


@dataclass(frozen=True)
class TET:
    """``(1 - weight) * L_TET + weight * L_MSE`` (Deng et al., ICLR 2022, arXiv 2202.11946)::

        L_TET = (1 / T) * sum over t of CE(O[t], labels)
        L_MSE = (1 / T) * sum over t of MSE(O[t], target)

    ``weight`` is the paper's lambda and ``target`` its phi, the same number for every class; the defaults are those of
    its authors' code. At inference the logits are averaged over time. It has no branches: lambda, the weight of
    branches, plays no part.

    Raises:
        ValueError: a weight outside 0 to 1, a target that is no number.
    """

    weight: float = 0.001
    target: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"TET's weight of the regulariser is from 0 to 1, got {self.weight}")
        if not math.isfinite(self.target):
            raise ValueError(f"TET's target must be finite, got {self.target}")

    def __call__(self, output: ShortcutOutput, labels: Tensor, balance: float) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            output: its ``main`` holds the logits of every step, ``[T, N, num_classes]``.
            labels: class indices ``[N]``.
            balance: not used.

        Raises:
            ValueError: logits without a time axis.
        """
        logits = output.main
        if logits.dim() != 3:
            raise ValueError(
                f"TET needs the logits of every time step, [T, N, classes], got shape {tuple(logits.shape)}; "
                f"networks of ours give them with readout='sequence'"
            )
        every_step = labels.expand(logits.shape[0], -1).flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), every_step, label_smoothing=self.label_smoothing)
        if self.weight == 0:
            return loss
        return (1.0 - self.weight) * loss + self.weight * F.mse_loss(logits, torch.full_like(logits, self.target))
