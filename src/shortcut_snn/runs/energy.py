"""Energy of what a task's network does with test data."""

import dataclasses
from typing import Any

import torch

from ..analysis.energy import EnergyReport, measure_energy
from ..data import Data
from .task import Task

SAMPLES = 256
"""How many test inputs are counted on by default: a fixed sample, shuffled, since test sets may be sorted by class."""


@torch.no_grad()
def run_energy(task: Task, data: Data, samples: int = SAMPLES) -> EnergyReport | None:
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
    """Return a row a layer, for one input."""
    return [
        dataclasses.asdict(layer) | {"energy_pj": layer.energy, "relu_energy_pj": layer.relu_energy}
        for layer in report.layers
    ]


def energy_line(report: EnergyReport) -> str:
    """Return the totals as a line."""
    spiking, relu = report.energy / 1000, report.relu_energy / 1000
    return f"{spiking:.4g} nJ an input; {relu:.4g} nJ with ReLUs, {relu / spiking:.2f} times as much"
