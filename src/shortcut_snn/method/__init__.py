"""The paper's method: shortcut back-propagation and evolutionary training, for any spiking network.

A tap is a submodule whose output is read. A branch is a tap and the auxiliary head on it.
:class:`Shortcut` wraps a network with branches, an objective makes one loss of their predictions, and the branch weight
(lambda) decides how much the branches count at each training step.
"""

from .branch_weight import Constant, CosineDecay, LinearDecay
from .heads import ConvHead, DenseHead, LinearHead
from .layout import Layout, Readout
from .method import Branches, Method, method_named
from .objectives import TET, LogitSum, LossSum, Objective, SelfDistillation, ShortcutOutput, StepLossSum
from .penalties import FiringRatePenalty
from .placement import every_block, stage_ends
from .shortcut import Shortcut
from .taps import Tap
from .time_loop import TimeLoop

__all__ = [
    "TET", "Branches", "Constant", "ConvHead", "CosineDecay", "DenseHead", "FiringRatePenalty", "Layout",
    "LinearDecay", "LinearHead", "LogitSum", "LossSum", "Method", "Objective", "Readout", "SelfDistillation",
    "Shortcut", "ShortcutOutput", "StepLossSum", "Tap", "TimeLoop", "every_block", "method_named", "stage_ends",
]  # fmt: skip
