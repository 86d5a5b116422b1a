"""Figures that only pages have; :mod:`shortcut_snn.diagnosis.plots` draws the others."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ...diagnosis.plots import COLOURS


def energy_bars(layers: Sequence[str], spiking: Sequence[float], relu: Sequence[float], path: Path) -> None:
    """Draw the energy of each layer, spiking and with ReLUs.

    Args:
        layers: their names.
        spiking: energy of an input in nanojoules.
        relu: the same for the network with ReLUs.
        path: where the figure goes.
    """
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    axes = figure.subplots()
    places = range(len(layers))
    axes.bar([place - 0.2 for place in places], spiking, 0.4, color=COLOURS[0], label="spiking")
    axes.bar([place + 0.2 for place in places], relu, 0.4, color=COLOURS[1], label="the same network with ReLUs")
    axes.set_xticks(places, layers, rotation=90, fontsize="x-small")
    axes.set(xlabel="layer, from input to output", ylabel="energy of an input, nJ")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
