"""Objectives: ``(output, labels, balance) -> scalar loss``. One idea a file."""

from collections.abc import Callable

from torch import Tensor

from ..model import ShortcutOutput
from .logit_sum import LogitSum
from .loss_sum import LossSum

Objective = Callable[[ShortcutOutput, Tensor, float], Tensor]

__all__ = ["LogitSum", "LossSum", "Objective"]
