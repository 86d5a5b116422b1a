"""The method: shortcut back-propagation and evolutionary training, for any spiking network."""

from .attachment import attach
from .balance import Balance, Constant, CosineDecay, LinearDecay, StepDecay
from .branch import Branch
from .model import Shortcut
from .objectives import TET, LogitSum, LossSum, Objective, SelfDistillation
from .output import ShortcutOutput
from .taps import every_block, stage_ends
from .time_loop import TimeLoop

__all__ = [
    "TET",
    "Balance",
    "Branch",
    "Constant",
    "CosineDecay",
    "LinearDecay",
    "LogitSum",
    "LossSum",
    "Objective",
    "SelfDistillation",
    "Shortcut",
    "ShortcutOutput",
    "StepDecay",
    "TimeLoop",
    "attach",
    "every_block",
    "stage_ends",
]
