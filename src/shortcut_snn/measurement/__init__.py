"""Measure every spiking layer in a pass: its firing, the input that is left, its gradient."""

from .gradients import measure_gradients
from .layers import Examination, LayerReport, examine
from .probe import firing_rates, probe

__all__ = ["Examination", "LayerReport", "examine", "firing_rates", "measure_gradients", "probe"]
