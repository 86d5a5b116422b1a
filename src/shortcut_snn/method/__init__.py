"""The method: shortcut back-propagation and evolutionary training, for any spiking network."""

from .description import Description, Tap
from .heads import Branch, ConvBranch, DenseBranch
from .model import Shortcut
from .objectives import (
    TET,
    Criterion,
    LogitSum,
    LossSum,
    Objective,
    SelfDistillation,
    ShortcutOutput,
    StepLossSum,
    takes_branches,
    takes_every_step,
)
from .schedules import Balance, Constant, CosineDecay, LinearDecay, StepDecay
from .taps import every_block, stage_ends
from .time_loop import TimeLoop

__all__ = [
    "TET",
    "Balance",
    "Branch",
    "Constant",
    "ConvBranch",
    "CosineDecay",
    "Criterion",
    "DenseBranch",
    "Description",
    "LinearDecay",
    "LogitSum",
    "LossSum",
    "Objective",
    "SelfDistillation",
    "Shortcut",
    "ShortcutOutput",
    "StepDecay",
    "StepLossSum",
    "Tap",
    "TimeLoop",
    "every_block",
    "stage_ends",
    "takes_branches",
    "takes_every_step",
]
