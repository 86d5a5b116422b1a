"""The method: shortcut back-propagation and evolutionary training, for any spiking network."""

from .balance import Balance, Constant, CosineDecay, LinearDecay, StepDecay
from .branch import Branch
from .model import Shortcut, ShortcutOutput
from .objectives import TET, LogitSum, LossSum, Objective, SelfDistillation
from .taps import every_block, stage_ends

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
    "every_block",
    "stage_ends",
]
