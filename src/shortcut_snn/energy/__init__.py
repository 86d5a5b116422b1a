"""Energy of an inference: operations, memory traffic and firing rates."""

from .counting import count_operations
from .firing import firing_rates
from .measure import measure_energy
from .report import ACCESS, ACCUMULATE, MULTIPLY_ACCUMULATE, EnergyReport, LayerEnergy

__all__ = [
    "ACCESS",
    "ACCUMULATE",
    "MULTIPLY_ACCUMULATE",
    "EnergyReport",
    "LayerEnergy",
    "count_operations",
    "firing_rates",
    "measure_energy",
]
