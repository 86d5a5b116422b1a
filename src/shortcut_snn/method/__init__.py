"""The paper's method: shortcut back-propagation and evolutionary training, for any spiking network.

A tap is a submodule whose output is read. A branch is a tap and the auxiliary head on it.
:class:`Shortcut` wraps a network with branches, an objective makes one loss of their predictions, and the branch weight
(lambda) decides how much the branches count at each training step.
"""

from .branch_weight import BranchWeight, Constant, CosineDecay, LinearDecay, StepDecay
from .calls import (
    Reset,
    call_by_name,
    call_on,
    copy_network,
    detached_states,
    dry_copy,
    evaluation,
    example_of,
    inputs_of,
    like,
    map_tensors,
    primary,
    signature_of,
    tensors_in,
)
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
    "Objective", "Penalty", "Readout", "Reset", "SelfDistillation", "Shortcut", "ShortcutOutput", "StepDecay",
    "StepLossSum", "Tap", "TimeAxis", "TimeLoop", "Unfold", "batch_of", "call_by_name", "call_on", "copy_network",
    "detached_states", "dry_copy", "entries", "evaluation", "every_block", "example_of", "first_tensor", "inputs_of",
    "like", "map_tensors", "primary", "resolve", "signature_of", "stage_ends", "stages", "takes_branches",
    "takes_every_step", "tensor_in", "tensors_in",
]  # fmt: skip
