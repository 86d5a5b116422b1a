"""The page of a comparison."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from ...diagnosis import plots
from ...diagnosis.gradients import shallow_to_deep
from ...files import read_json
from ...training import ENERGY_COLUMNS, Metric, RunFolder, column_title, format_duration, format_value
from ..compare import FIGURES, comparison_table
from .page import Page, Section, Table, all_columns, entries_section, picture
from .reading import Row, entry_texts, number_at, read_rows
from .run_page import network_and_data, origin

COMPARISON = "comparison.csv"
EPOCH_COLUMNS = {
    "loss on validation data": "validation_loss",
    "lambda (weight of the branches)": "lambda",
    "firing rate (spikes per neuron and time step)": "firing_rate",
}
"""Columns of ``metrics.csv`` that the page draws against epochs, by title."""
Curve = tuple[list[float], list[float]]
"""The x and the y values of a run."""


@dataclass(frozen=True)
class Comparison:
    """The files of a comparison, read.

    Args:
        folder: of the comparison.
        metric: what is compared.
        baseline: the method that the others are compared with.
        tuned: by method, the values that were chosen for each tuned entry.
        rows: ``comparison.csv``, a row for each method.
        runs: ``runs.csv``, a row for each run.
        folders: by method, the folders of its runs that are there.
    """

    folder: Path
    metric: Metric
    baseline: str
    tuned: dict[str, dict[str, str]]
    rows: list[Row]
    runs: list[Row]
    folders: dict[str, list[RunFolder]]

    @property
    def chance(self) -> float | None:
        """The metric's chance level, as it is shown."""
        levels = [self.metric.scale * number_at(run, "chance") for run in self.runs]
        return next((level for level in levels if not math.isnan(level)), None)

    @property
    def first(self) -> RunFolder | None:
        """The folder of the first run."""
        return next((folder for folders in self.folders.values() for folder in folders), None)

    def values(self, method: str) -> list[float]:
        """Return the metric of a method's runs on test data after the last epoch, as it is shown."""
        column = f"test_last.{self.metric.name}"
        return [self.metric.scale * run[column] for run in self.runs if run["variant"] == method]


def read_comparison(folder: Path) -> Comparison:
    """Read the files of a comparison.

    Raises:
        ValueError: a file is damaged.
    """
    means = [f"{name}{suffix}" for name in ("last", "best", "difference") for suffix in ("", "_interval")]
    rows = read_rows(folder / COMPARISON, ["n", *means, *FIGURES], ["variant"])
    description = read_json(folder / "comparison.json")
    if not rows or "metric" not in description:
        raise ValueError(f"{folder / COMPARISON} or comparison.json is damaged: give the same compare command again")
    metric, tuned = Metric.of(description), description.get("tuned")
    runs = read_rows(folder / "runs.csv", ["seed", f"test_last.{metric.name}"], ["variant", "folder"], mixed=True)
    methods = [str(row["variant"]) for row in rows]
    if not set(methods) <= {run["variant"] for run in runs} or any(math.isnan(run["seed"]) for run in runs):
        raise ValueError(f"{folder / 'runs.csv'} is damaged: give the same compare command again")
    folders = {
        method: [
            RunFolder(folder / run["folder"] / f"seed{run['seed']:.0f}") for run in runs if run["variant"] == method
        ]
        for method in methods
    }
    return Comparison(
        folder,
        metric,
        str(description.get("baseline", methods[0])),
        tuned if isinstance(tuned, dict) else {},
        rows,
        runs,
        {method: [run for run in of if run.is_run] for method, of in folders.items()},
    )


def comparison_page(folder: Path) -> Page:
    """Return the page of a comparison, with the runs that have finished.

    Raises:
        ValueError: a file is damaged.
    """
    comparison = read_comparison(folder)
    first = comparison.first
    environment = read_json(first.environment) if first else {}
    methods = list(comparison.folders)
    names = ", ".join(methods[:4]) + (", ..." if methods[4:] else "")
    answer, sentence = _verdict(comparison)
    return Page(
        f"{network_and_data(first.read_entries() if first else {})}: comparison {folder.name}",
        " · ".join([names, origin(environment)]),
        answer,
        [sentence],
        _facts(comparison),
        [
            *_progress(comparison),
            _methods(comparison),
            *_tuning(folder),
            *_curves(comparison),
            *_energy(comparison),
            *_recipes(comparison),
            Section("Runs", tables=[all_columns(comparison.runs, "all figures of every run")]),
            *entries_section("Environment of the first run", entry_texts(environment)),
        ],
    )


def _verdict(comparison: Comparison) -> tuple[str, str]:
    """Return the best method's figure, if it is better than chance, and a sentence about it."""
    metric, chance = comparison.metric, comparison.chance
    known = [row for row in comparison.rows if math.isfinite(row["last"])]
    if not known:
        return "", f"No method reached a finite {metric.title}."
    best = (max if metric.higher_is_better else min)(known, key=lambda row: row["last"])
    half = 0.0 if math.isnan(best["last_interval"]) else best["last_interval"]
    worst_end = best["last"] - half if metric.higher_is_better else best["last"] + half
    if chance is not None and not metric.is_better(worst_end, chance):
        return "", f"No method is clearly better than chance; {best['variant']} comes first in {metric.title}."
    reached = f"{metric.format_interval(best['last'], best['last_interval'])}{' %' if metric.fraction else ''}"
    sentence = f"{best['variant']} is best in {metric.title} on test data: {reached} on average"
    if best["variant"] == comparison.baseline or math.isnan(best["difference"]):
        return reached, f"{sentence}."
    pair = (best["difference"], best["difference_interval"])
    difference, judgement = metric.format_interval(*pair, "+"), metric.describe_difference(*pair)
    return reached, f"{sentence}; against {comparison.baseline} with the same seeds {difference}: {judgement}."


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    seeds = {run["seed"] for run in comparison.runs}
    facts = [("methods", str(len(comparison.rows))), ("seeds", str(len(seeds))), ("runs", str(len(comparison.runs)))]
    if comparison.chance is not None:
        facts.append(("chance", comparison.metric.format(comparison.chance / comparison.metric.scale)))
    seconds = [second for folders in comparison.folders.values() for run in folders for second in _seconds(run)]
    return [*facts, ("time in training, all runs", format_duration(sum(seconds)))] if seconds else facts


def _methods(comparison: Comparison) -> Section:
    rows, metric = comparison.rows, comparison.metric
    text = (
        "Means with 95 % intervals (Student's t over seeds), on test data. Differences are between runs with the same "
        "seed; one is clear if its interval excludes 0. Gradient ratios are of the first layer to the last."
    )
    labels = [str(row["variant"]) for row in rows]
    draw = _drawing(
        plots.comparison,
        labels,
        [comparison.values(label) for label in labels],
        [row["last_interval"] for row in rows],
        what=metric.label("test {} after the last epoch"),
        chance=comparison.chance,
    )
    table = comparison_table(rows, metric, comparison.baseline, comparison.tuned)
    return Section("Methods", text, [picture("Mean, interval and runs", draw)], [Table(*table)])


def _drawing(draw: Callable[..., None], *args: Any, **options: Any) -> Callable[[Path], None]:
    """Return a function of a path alone."""
    return lambda path: draw(*args, path=path, **options)


def _tuning(folder: Path) -> list[Section]:
    rows = read_rows(folder / "tuning.csv", text=["variant", "outcome"], mixed=True)
    text = "Each method trains with the value that was best for it on validation data after the last epoch (one seed)."
    return [Section("Tuning", text, tables=[all_columns(rows, "all values")])] if rows else []


# Curves.


def _progress(comparison: Comparison) -> list[Section]:
    """Return the metric against epochs and against time, on validation data or else on training data."""
    metric = comparison.metric
    for part, data in (("validation", "validation data"), ("train", "training data")):
        column = f"{part}_{metric.name}"
        against_epochs = _runs(comparison, partial(_metric_curve, column=column, scale=metric.scale))
        if not any(against_epochs.values()):
            continue
        title = metric.label("{} on " + data)
        panels = [
            plots.Panel(title, "epoch", against_epochs, chance=comparison.chance),
            plots.Panel(
                title,
                "seconds of training",
                _runs(comparison, partial(_metric_curve, column=column, scale=metric.scale, over_time=True)),
                chance=comparison.chance,
            ),
        ]
        text = f"{metric.title.capitalize()} on {data}. A line is the mean over runs, a band their range."
        return [Section("Against epochs and time", text, [picture("", partial(plots.method_panels, panels))])]
    return []


def _curves(comparison: Comparison) -> list[Section]:
    """Return what else was recorded after each epoch, and the layers after the last one."""
    panels = [
        *(
            plots.Panel(title, "epoch", _runs(comparison, partial(_metric_curve, column=column)))
            for title, column in EPOCH_COLUMNS.items()
        ),
        plots.Panel(
            "gradient of the weights, first layer / last", "epoch", _runs(comparison, _gradient_ratios), log=True
        ),
        _layer_panel("gradient RMS of the weights, last epoch", comparison, _last_gradients, log=True),
        _layer_panel("firing rate, last epoch", comparison, _last_rates, log=False),
    ]
    panels = [panel for panel in panels if _has_values(panel)]
    if not panels:
        return []
    text = "A line is the mean over runs, a band their range."
    pictures = [picture("", partial(plots.method_panels, panels))]
    return [Section("Over epochs and layers", text, pictures)]


def _has_values(panel: plots.Panel) -> bool:
    """Return whether a panel shows anything; without branches lambda is 0 throughout."""
    values = [value for runs in panel.runs.values() for _, ys in runs for value in ys if math.isfinite(value)]
    return any(values) if panel.title.startswith("lambda") or panel.log else bool(values)


def _runs(comparison: Comparison, curve: Callable[[RunFolder], Curve]) -> dict[str, list[Curve]]:
    """Return a curve of every run, by method; runs without values are left out."""
    curves = {method: [curve(run) for run in folders] for method, folders in comparison.folders.items()}
    return {method: [each for each in of if each[1]] for method, of in curves.items()}


def _metric_curve(run: RunFolder, column: str, scale: float = 1, over_time: bool = False) -> Curve:
    """Return a column of ``metrics.csv`` against epochs, or against the seconds of training."""
    rows = read_rows(run.table("metrics"), ["epoch"])
    values = [scale * row.get(column, math.nan) for row in rows]
    if all(map(math.isnan, values)):
        return [], []
    if over_time:
        seconds = list(accumulate(_seconds(run)))
        return seconds, values[: len(seconds)]
    return [row["epoch"] for row in rows], values


def _seconds(run: RunFolder) -> list[float]:
    """Return the training time of each epoch."""
    rows = read_rows(run.table("timing"), ["epoch", "seconds"])
    return [row["seconds"] for row in rows if not math.isnan(row["seconds"])]


def _gradients(run: RunFolder) -> list[tuple[float, dict[str, float]]]:
    """Return each epoch, and its gradients by layer."""
    rows = read_rows(run.table("gradients"), ["epoch"])
    return [(row["epoch"], {key: value for key, value in row.items() if key != "epoch"}) for row in rows]


def _gradient_ratios(run: RunFolder) -> Curve:
    rows = _gradients(run)
    return [epoch for epoch, _ in rows], [shallow_to_deep(gradients) for _, gradients in rows]


def _last_gradients(run: RunFolder) -> dict[str, float]:
    rows = _gradients(run)
    return rows[-1][1] if rows else {}


def _last_rates(run: RunFolder) -> dict[str, float]:
    rows = read_rows(run.table("layers"), ["epoch", "rate"], ["layer"])
    return {row["layer"]: row["rate"] for row in rows if row["epoch"] == rows[-1]["epoch"]}


def _layer_panel(
    title: str, comparison: Comparison, values: Callable[[RunFolder], dict[str, float]], log: bool
) -> plots.Panel:
    """Return a panel over layers; networks of different depth share the number of a layer, not its name."""
    by_layer = {method: [values(run) for run in folders] for method, folders in comparison.folders.items()}
    names = {tuple(run) for runs in by_layer.values() for run in runs if run}
    longest = max(names, key=len, default=())
    layers = list(longest) if len(names) == 1 else [str(index + 1) for index in range(len(longest))]
    runs = {
        method: [(list(map(float, range(1, len(run) + 1))), list(run.values())) for run in of if run]
        for method, of in by_layer.items()
    }
    return plots.Panel(title, "layer", runs, log, layers)


# Tables.


def _energy(comparison: Comparison) -> list[Section]:
    rows = []
    for method in comparison.folders:
        runs = [run for run in comparison.runs if run["variant"] == method]
        runs = [run for run in runs if math.isfinite(number_at(run, "energy_pj"))]
        if runs:
            means = [sum(run.get(f"{name}_pj", math.nan) for run in runs) / len(runs) for name in ENERGY_COLUMNS]
            rows.append([method, *(format_value(mean / 1000) for mean in means)])
    columns = [
        "method",
        "energy of an input, nJ (mean over runs)",
        *(column_title(f"{name}_pj") for name in ENERGY_COLUMNS[1:]),
    ]
    return [Section("Energy", "45 nm (Horowitz, ISSCC 2014).", tables=[Table(columns, rows)])] if rows else []


def _recipes(comparison: Comparison) -> list[Section]:
    """Return what the recipes of the methods' first runs share, and what differs."""
    recipes = {
        method: dict(entry_texts(folders[0].read_entries()))
        for method, folders in comparison.folders.items()
        if folders
    }
    keys = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    varied = [key for key in keys if len({recipe.get(key) for recipe in recipes.values()}) > 1]
    different = [[method, *(recipe.get(key, "-") for key in varied)] for method, recipe in recipes.items()]
    shared = [(key, next(iter(recipes.values()))[key]) for key in keys if key not in varied]
    sections = [Section("Recipes: differences", tables=[Table(["method", *varied], different)])] if varied else []
    text = "Of each method's first run."
    return [*sections, Section("Recipes: common entries", text, tables=[Table((), shared, "all entries")])]
