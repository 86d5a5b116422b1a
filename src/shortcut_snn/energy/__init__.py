"""Energy of an inference: operations and memory traffic."""

from .measure import measure_energy
from .report import EnergyReport

__all__ = ["EnergyReport", "measure_energy"]
