"""Energy of an inference: operations and memory traffic."""

from .counting import count_operations
from .measure import measure_energy
from .report import ACCESS, ACCUMULATE, MULTIPLY_ACCUMULATE, EnergyReport, LayerEnergy, with_unit

__all__ = [
    "ACCESS",
    "ACCUMULATE",
    "MULTIPLY_ACCUMULATE",
    "EnergyReport",
    "LayerEnergy",
    "count_operations",
    "measure_energy",
    "with_unit",
]
