"""Looking at a network: gradients of every layer, firing rates, energy, a verdict with tips, calibration."""

from .calibration import calibrate, set_widths
from .diagnosis import Diagnosis, diagnose
from .energy import EnergyReport, measure_energy
from .firing import firing_rates
from .layers import Examination, LayerReport, examine
from .verdict import Verdict, judge

__all__ = [
    "Diagnosis",
    "EnergyReport",
    "Examination",
    "LayerReport",
    "Verdict",
    "calibrate",
    "diagnose",
    "examine",
    "firing_rates",
    "judge",
    "measure_energy",
    "set_widths",
]
