"""Looking at a network: gradients of every layer, firing rates, energy, a verdict with tips, calibration."""

from .calibration import calibrate, set_widths
from .diagnosis import Diagnosis, diagnose
from .layers import Examination, LayerReport, examine
from .verdict import Verdict, judge

__all__ = [
    "Diagnosis",
    "Examination",
    "LayerReport",
    "Verdict",
    "calibrate",
    "diagnose",
    "examine",
    "judge",
    "set_widths",
]
