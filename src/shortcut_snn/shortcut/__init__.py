"""The method: shortcut back-propagation and evolutionary training, for any spiking network."""

from .attachment import attach
from .balance import Balance, Constant, CosineDecay, LinearDecay, StepDecay
from .branch import Branch
from .model import Shortcut, ShortcutOutput
from .objectives import LogitSum, LossSum, Objective
from .taps import every_block, stage_ends
from .time_loop import TimeLoop

__all__ = [
    "Balance",
    "Branch",
    "Constant",
    "CosineDecay",
    "LinearDecay",
    "LogitSum",
    "LossSum",
    "Objective",
    "Shortcut",
    "ShortcutOutput",
    "StepDecay",
    "TimeLoop",
    "attach",
    "every_block",
    "stage_ends",
]
