"""The paper's method: shortcut back-propagation and evolutionary training, for any spiking network.

A tap is a submodule whose output is read. A branch is a tap and the auxiliary head on it.
:class:`Shortcut` wraps a network with branches, an objective makes one loss of their predictions, and the branch weight
(lambda) decides how much the branches count at each training step.
"""

from .branch_weight import BranchWeight, Constant, CosineDecay, LinearDecay, StepDecay
from .gradient import Gradient, initialises
from .heads import ConvHead, DenseHead, Head, LinearHead
from .layout import Layout, Readout, entries
from .method import Branches, Method, combine
from .objectives import (
    TET,
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
from .presets import METHODS, NETWORKS, method_named
from .shortcut import Shortcut, check_samples
from .taps import Extract, Tap, Taps, TimeAxis, Unfold, batch_of, first_tensor, tensor_in
from .targets import Criterion, are_classes, default_loss, in_shape_of, without_broadcasting
from .time_loop import TimeLoop

__all__ = [
    "METHODS", "NETWORKS", "PLACEMENTS", "TET", "BranchWeight", "Branches", "Constant", "ConvHead", "CosineDecay",
    "Criterion", "DenseHead", "Extract", "FiringRatePenalty", "FiringRates", "Gradient", "Head", "Layout",
    "LinearDecay", "LinearHead", "LogitSum", "LossSum", "Method", "Objective", "Penalty", "Readout",
    "SelfDistillation", "Shortcut", "ShortcutOutput", "StepDecay", "StepLossSum", "Tap", "Taps", "TimeAxis",
    "TimeLoop", "Unfold", "are_classes", "batch_of", "check_samples", "combine", "default_loss", "entries",
    "every_block", "first_tensor", "in_shape_of", "initialises", "method_named", "resolve", "stage_ends", "stages",
    "takes_branches", "takes_every_step", "tensor_in", "without_broadcasting",
]  # fmt: skip
