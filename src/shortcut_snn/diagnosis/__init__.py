"""Diagnose a network: input, firing and gradient of every layer, a verdict with tips, and a start that mends it."""

from .diagnosis import Diagnosis, diagnose, diagnose_setup, neuron_remedies
from .gradients import (
    GradientReport,
    first_to_last_ratio,
    gradient_rms,
    is_on_chain,
    measure_gradients,
)
from .initialisation import Initialisation, initialise
from .layers import (
    Batch,
    Examination,
    LayerReport,
    are_classes,
    chain,
    examine,
    gradient_factor,
    in_shape_of,
    layer_reports,
)
from .memory import PeakMemory, release_memory
from .probe import LayerTally, firing_rates, probe
from .statistics import geometric_mean, mean_interval, share_interval, with_interval
from .surrogates import set_surrogates
from .tips import Remedy, Setup
from .verdict import Verdict, judge

__all__ = [
    "Batch", "Diagnosis", "Examination", "GradientReport", "Initialisation", "LayerReport", "LayerTally",
    "PeakMemory", "Remedy", "Setup", "Verdict", "are_classes", "chain", "diagnose", "diagnose_setup", "examine",
    "firing_rates", "first_to_last_ratio", "geometric_mean", "gradient_factor", "gradient_rms", "in_shape_of",
    "initialise", "is_on_chain", "judge", "layer_reports", "mean_interval", "measure_gradients", "neuron_remedies",
    "probe", "release_memory", "set_surrogates", "share_interval", "with_interval",
]  # fmt: skip
