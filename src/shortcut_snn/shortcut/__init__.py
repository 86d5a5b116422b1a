"""The method: shortcut back-propagation and evolutionary training, for any spiking network."""

from .balance import Balance, Constant, CosineDecay, LinearDecay, StepDecay
from .branch import Branch
from .model import Shortcut, ShortcutOutput
from .objectives import LogitSum, LossSum, Objective
from .taps import every_block, stage_ends

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
    "every_block",
    "stage_ends",
]
