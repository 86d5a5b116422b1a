"""Energy of what a task's network does with test data."""

import dataclasses
from typing import Any

import torch

from ..data import Data
from ..energy import EnergyReport, measure_energy
from .task import Task

ENERGY_SAMPLES = 256
"""How many test inputs are counted on by default: a fixed sample, shuffled, since test sets may be sorted by class."""
ENERGY_COLUMNS = ("energy", "relu_energy", "total_energy", "quantised_energy")


@torch.no_grad()
def measure_task_energy(task: Task, data: Data, samples: int = ENERGY_SAMPLES) -> EnergyReport | None:
    """Measure a task's network on a sample of its test data; None where it has nothing to count.

    Args:
        task: its network is measured.
        data: what it was trained on.
        samples: how many inputs.
    """
    inputs, _ = task.ready(data.sample(samples))
    try:
        return measure_energy(task.model, [inputs])
    except ValueError:
        return None


def energy_rows(report: EnergyReport) -> list[dict[str, Any]]:
    """Return a row a layer, for one input; a rate that there is none of is left empty."""
    rows = []
    for layer in report.layers:
        row = dataclasses.asdict(layer) | {f"{name}_pj": getattr(layer, name) for name in ENERGY_COLUMNS}
        rates = {name: getattr(layer, name) for name in ("firing_rate", "break_even_rate")}
        rows.append(row | {name: "" if rate != rate else rate for name, rate in rates.items()})
    return rows


def energy_line(report: EnergyReport) -> str:
    """Return the totals of operations as a line."""
    spiking, relu = report.energy / 1000, report.relu_energy / 1000
    return f"{spiking:.4g} nJ an input; {relu:.4g} nJ with ReLUs, {relu / spiking:.2f} times as much"


def memory_energy_line(report: EnergyReport) -> str:
    """Return the totals with memory, and who takes less, as a line."""
    spiking, quantised, even = report.total_energy / 1000, report.quantised_energy / 1000, report.break_even_rate
    said = f"with memory {spiking:.4g} nJ; the same network quantised to {report.bits} bits {quantised:.4g} nJ"
    if not even >= 0:
        return said
    rates = f"fires at {100 * report.firing_rate:.3g} %, would break even at {100 * even:.3g} %"
    return f"{said}; it {rates}"
