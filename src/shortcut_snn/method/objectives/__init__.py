"""Objectives: ``(output, labels, balance) -> scalar loss``. One idea a file."""

from collections.abc import Callable

from torch import Tensor

from ..output import ShortcutOutput
from .logit_sum import LogitSum
from .loss_sum import LossSum
from .self_distillation import SelfDistillation
from .tet import TET

Objective = Callable[[ShortcutOutput, Tensor, float], Tensor]

__all__ = ["TET", "LogitSum", "LossSum", "Objective", "SelfDistillation"]
