"""Energy of what a module's network does with test data."""

import dataclasses
import itertools
from typing import Any

import torch

from ..analysis.energy import EnergyReport, measure_energy
from ..data import Loaders
from .module import ShortcutModule

ENERGY = "energy.csv"


@torch.no_grad()
def run_energy(module: ShortcutModule, loaders: Loaders, time_steps: int, batches: int = 1) -> EnergyReport:
    """Measure a module's network on its first test batches."""
    some = itertools.islice(iter(loaders.test), batches)
    inputs = [module.prepare(images.to(module.device)) for images, _ in some]
    return measure_energy(module.model.network, inputs, time_steps)


def energy_rows(report: EnergyReport) -> list[dict[str, Any]]:
    """Return a row a layer, for one input."""
    return [
        dataclasses.asdict(layer) | {"energy_pj": layer.energy, "relu_energy_pj": layer.relu_energy}
        for layer in report.layers
    ]


def energy_line(report: EnergyReport) -> str:
    """Return the totals as a line."""
    spiking, relu = report.energy / 1000, report.relu_energy / 1000
    return f"{spiking:.4g} nJ an image; {relu:.4g} nJ with ReLUs, {relu / spiking:.2f} times as much"
