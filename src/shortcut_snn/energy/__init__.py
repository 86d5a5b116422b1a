"""Energy of an inference: operations, memory traffic and firing rates."""

from .firing import firing_rates
from .measure import EnergyReport, measure_energy

__all__ = ["EnergyReport", "firing_rates", "measure_energy"]
