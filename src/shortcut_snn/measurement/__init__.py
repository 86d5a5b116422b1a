"""Measure every spiking layer in a pass: its firing, the input that is left, its gradient."""

from .gradients import (
    GradientReport,
    first_to_last_ratio,
    gradient_rms,
    is_on_chain,
    measure_gradients,
)
from .layers import (
    Batch,
    Examination,
    LayerReport,
    Loss,
    chain,
    check_can_examine,
    examine,
    gradient_factor,
    layer_reports,
    trained_chain,
)
from .probe import LayerTally, check_has_neurons, firing_rates, probe
from .setup import Setup, wrapped_copy

__all__ = [
    "Batch", "Examination", "GradientReport", "LayerReport", "LayerTally", "Loss", "Setup", "chain",
    "check_can_examine", "check_has_neurons", "examine", "firing_rates", "first_to_last_ratio",
    "gradient_factor", "gradient_rms", "is_on_chain", "layer_reports", "measure_gradients", "probe",
    "trained_chain", "wrapped_copy",
]  # fmt: skip
