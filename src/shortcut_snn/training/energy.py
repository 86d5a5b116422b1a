"""Energy of a task's network on its test data."""

import dataclasses
from typing import Any

import torch

from ..data import Data
from ..energy import EnergyReport, measure_energy
from .task import Task

ENERGY_SAMPLES = 256
"""The default number of test inputs; they are drawn at random with a fixed seed, since test sets may be sorted."""
ENERGY_COLUMNS = ("energy", "relu_energy", "total_energy", "quantised_energy")


@torch.no_grad()
def measure_task_energy(task: Task, data: Data, samples: int = ENERGY_SAMPLES) -> EnergyReport | None:
    """Return the energy of a task's network on a sample of the test data; None if it has no layers to count."""
    inputs, _ = task.prepare_batch(data.sample(samples))
    try:
        return measure_energy(task.model, [inputs])
    except ValueError:
        return None


def energy_rows(report: EnergyReport) -> list[dict[str, Any]]:
    """Return one row per layer, for one input; a rate that is undefined is left empty."""
    rows = []
    for layer in report.layers:
        row = dataclasses.asdict(layer) | {f"{name}_pj": getattr(layer, name) for name in ENERGY_COLUMNS}
        rates = {name: getattr(layer, name) for name in ("firing_rate", "break_even_rate")}
        rows.append(row | {name: "" if rate != rate else rate for name, rate in rates.items()})
    return rows
