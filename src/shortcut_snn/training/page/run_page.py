"""The page on a run."""

import math
from functools import partial
from pathlib import Path
from typing import Any

from ... import __version__
from ...analysis import plots
from .. import recipe_io
from ..calibration import WIDTHS
from ..operations import ENERGY
from ..report import percent
from ..resume import RECIPE, RESULT
from .files import Row, flat, read_json, read_rows
from .html import Page, Section, Table, picture


def run_page(folder: Path) -> Page:
    """Return the page on a run, finished or not.

    Raises:
        FileNotFoundError: its first epoch is not over.
        ValueError: one of its files is damaged.
    """
    metrics = read_rows(folder / "metrics.csv")
    if not metrics:
        raise FileNotFoundError(f"the run in {folder} has not finished an epoch yet: there is nothing to report")
    recipe = recipe_io.read(folder / RECIPE)
    result = read_json(folder / RESULT)
    sections = [
        Section(
            "Learning",
            "Lambda is the weight of the branches.",
            [picture("curves", partial(plots.curves, metrics)), picture("lambda", partial(plots.balance, metrics))],
            all_columns(metrics),
            folded=True,
        ),
        *_gradients(folder),
        *_layers(folder),
        *_energy(folder),
        *_pairs("Calibrated surrogate widths", read_json(folder / WIDTHS), folded=True),
        *_pairs("Recipe", recipe.to_dict()),
        *_pairs("Environment", read_json(folder / "environment.json")),
    ]
    subtitle = f"{recipe.network.name}, {recipe.method.name}, {recipe.data.name}; shortcut-snn {__version__}"
    return Page(f"Run {folder.name}", subtitle, _facts(result, metrics), sections)


def _facts(result: dict[str, Any], metrics: list[Row]) -> list[tuple[str, str]]:
    if not result:
        last = metrics[-1]
        facts = [("state", f"not finished: {len(metrics)} epochs so far")]
        if "validation_accuracy" in last:
            facts.append(("validation accuracy, last epoch", percent(last["validation_accuracy"])))
        return facts
    ratios = [result[f"gradient_ratio_{when}_epoch"] for when in ("first", "last")]
    facts = [
        ("test accuracy, last epoch", percent(result["test_accuracy_last"])),
        (f"test accuracy, epoch {result['best_epoch']} (best)", percent(result["test_accuracy_best"])),
        ("firing rate", f"{result['firing_rate']:.3f}"),
        ("gradient, first layer / last: epoch 1, end", f"{ratios[0]:.3g}, {ratios[1]:.3g}"),
        ("time", f"{result['seconds_per_epoch']:.1f} s an epoch"),
    ]
    if "energy_pj" in result:
        energy = f"{result['energy_pj'] / 1000:.4g} nJ (ReLUs {result['relu_energy_pj'] / 1000:.4g})"
        facts.append(("energy of an input", energy))
    return facts


def _gradients(folder: Path) -> list[Section]:
    rows = read_rows(folder / "gradients.csv")
    if not rows:
        return []
    drawn = picture("gradients", partial(plots.gradients, rows))
    return [
        Section("Gradients of the weights", "On the last batch of each epoch.", [drawn], all_columns(rows), folded=True)
    ]


def _layers(folder: Path) -> list[Section]:
    rows = read_rows(folder / "layers.csv")
    if not rows or "epoch" not in rows[0]:
        return []

    def over_epochs(key: str) -> list[Row]:
        epochs: dict[float, Row] = {}
        for row in rows:
            epochs.setdefault(row["epoch"], {"epoch": row["epoch"]})[row["layer"]] = row[key]
        return list(epochs.values())

    drawn = [
        picture("spikes", partial(plots.by_layer, over_epochs("norm"), title="gradients", what="norm at the spikes")),
        picture("rates", partial(plots.by_layer, over_epochs("rate"), title="firing rates", what="spikes", log=False)),
        picture("silent", partial(plots.by_layer, over_epochs("silent"), title="silent", what="share", log=False)),
    ]
    last = [row for row in rows if row["epoch"] == rows[-1]["epoch"]]
    text = "One batch of each epoch; rates are spikes per neuron and time step, silent is the share of neurons that "
    return [
        Section("Spiking layers", f"{text}never fired. The table is of the last epoch.", drawn, all_columns(last), True)
    ]


def _energy(folder: Path) -> list[Section]:
    rows = read_rows(folder / ENERGY)
    if not rows:
        return []
    text = (
        "For one input: 0.9 pJ an addition, 4.6 pJ a multiplication with addition (45 nm; Horowitz, ISSCC 2014). "
        "Normalisations are folded; memory and the neurons' own updates are not counted."
    )
    return [Section("Energy", text, [picture("energy", partial(plots.energy, rows))], all_columns(rows), folded=True)]


def _pairs(title: str, entries: dict[str, Any], folded: bool = False) -> list[Section]:
    return [Section(title, table=Table((), flat(entries)), folded=folded)] if entries else []


def all_columns(rows: list[Row]) -> Table:
    """Return rows as a table of the columns of the first."""
    columns = list(rows[0])
    return Table(columns, [[show(row.get(column, math.nan)) for column in columns] for row in rows])


def show(value: Any) -> str:
    """Return a figure of four digits, and other things as they are."""
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4g}"
