"""The paper's method: shortcut back-propagation and evolutionary training, for any spiking network.

A tap is a submodule whose output is read. A branch is a tap and the auxiliary head on it.
:class:`Shortcut` wraps a network with branches, an objective makes one loss of their predictions, and the branch weight
(lambda) decides how much the branches count at each training step.
"""

from .branch_weight import BranchWeight, Constant, CosineDecay, LinearDecay, StepDecay
from .heads import ConvHead, DenseHead, Head, LinearHead
from .layout import Layout, Readout, entries
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
from .penalties import FiringRatePenalty, FiringRates, Penalty
from .placement import PLACEMENTS, every_block, resolve, stage_ends, stages
from .shortcut import Shortcut
from .taps import Extract, Tap, TimeAxis, Unfold, batch_of, first_tensor, tensor_in
from .time_loop import TimeLoop

__all__ = [
    "PLACEMENTS", "TET", "BranchWeight", "Constant", "ConvHead", "CosineDecay", "Criterion", "DenseHead", "Extract",
    "FiringRatePenalty", "FiringRates", "Head", "Layout", "LinearDecay", "LinearHead", "LogitSum", "LossSum",
    "Objective", "Penalty", "Readout", "SelfDistillation", "Shortcut", "ShortcutOutput", "StepDecay", "StepLossSum",
    "Tap", "TimeAxis", "TimeLoop", "Unfold", "batch_of", "entries", "every_block", "first_tensor", "resolve",
    "stage_ends", "stages", "takes_branches", "takes_every_step", "tensor_in",
]  # fmt: skip
