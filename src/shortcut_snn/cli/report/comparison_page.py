"""The page of a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from ... import plots
from ..._utils.files import read_json
from ..._utils.statistics import mean_interval
from ...measurement.gradients import first_to_last_ratio
from ...training import RunFolder, read_rows
from ...training.tables import format_duration
from ..compare import Comparison
from .page import Page, Section, Table, all_columns, entries_section, entry_texts, picture
from .run_page import network_and_data

Curve = tuple[Sequence[float], Sequence[float]]
"""The x and the y values of a run."""


def comparison_page(folder: Path) -> Page:
    """Return the page of a comparison, with the runs that have finished."""
    comparison = Comparison.read(folder)
    runs = {
        label: [RunFolder(folder / comparison.folders[label] / f"seed{seed}") for seed in results]
        for label, results in comparison.finished.items()
    }
    methods, first = list(runs), next(iter(runs.values()))[0]
    answer, sentence = _verdict(comparison)
    tables = {method: list(map(_Tables, folders)) for method, folders in runs.items()}
    seconds = sum(second for method in tables.values() for run in method for second in run.seconds)
    return Page(
        f"{network_and_data(first.read_entries())}: comparison in {folder}",
        ", ".join(methods),
        answer,
        [sentence],
        [
            ("methods", str(len(methods))),
            ("runs", str(sum(map(len, runs.values())))),
            ("time in training, all runs", format_duration(seconds)),
        ],
        [
            _methods(comparison),
            _curves(comparison, tables),
            *_recipes(runs),
            Section("Runs", tables=[all_columns(comparison.run_rows(), "all figures of every run")]),
            *entries_section("Environment of the first run", read_json(first.environment)),
        ],
    )


def _verdict(comparison: Comparison) -> tuple[str, str]:
    """Return the best method's figure, if it is better than chance, and a sentence about it."""
    metric, chance = comparison.metric, comparison.chance
    rows = [row for row in comparison.rows if math.isfinite(row["last"])]
    if not rows:
        return "", f"No method reached a finite {metric.title}."
    best = (max if metric.higher_is_better else min)(rows, key=lambda row: row["last"])
    half = 0.0 if math.isnan(best["last_interval"]) else best["last_interval"]
    worst_end = best["last"] - half if metric.higher_is_better else best["last"] + half
    if chance is not None and not metric.is_better(worst_end, chance):
        return "", f"No method is clearly better than chance; {best['variant']} comes first in {metric.title}."
    reached = f"{metric.format_interval(best['last'], best['last_interval'])}{' %' if metric.fraction else ''}"
    label, unclear = best["variant"], _not_clearly_worse(comparison, best["variant"])
    place = f"has the best mean {metric.title}" if unclear else f"is best in {metric.title}"
    sentence = f"{label} {place} on test data: {reached} on average"
    if unclear:
        sentence += f"; no clear difference from {', '.join(unclear)}"
    if label != comparison.baseline and not math.isnan(best["difference"]):
        pair = (best["difference"], best["difference_interval"])
        difference, judgement = metric.format_interval(*pair, "+"), metric.describe_difference(*pair)
        sentence += f"; against {comparison.baseline} with the same seeds {difference}: {judgement}"
    return reached, f"{sentence}."


def _not_clearly_worse(comparison: Comparison, best: str) -> list[str]:
    """Return the methods that are not clearly worse than the best, over runs with the same seed."""
    values, unclear = comparison.values(best), []
    for label in comparison.finished:
        other = comparison.values(label)
        difference = mean_interval([values[seed] - other[seed] for seed in values if seed in other])
        if label != best and comparison.metric.describe_difference(*difference) != "clearly better":
            unclear.append(label)
    return unclear


def _methods(comparison: Comparison) -> Section:
    text = (
        "Means with 95 % intervals (Student's t over seeds), on test data. Differences are between runs with the same "
        "seed; one is clear if its interval excludes 0. Gradient ratios are of the first layer to the last."
    )
    return Section("Methods", text, [picture("Mean, interval and runs", comparison.draw)], [Table(*comparison.table())])


class _Tables:
    """The tables of a run that curves are drawn from."""

    def __init__(self, run: RunFolder) -> None:
        self.metrics = read_rows(run.table("metrics"))
        self.seconds = [row["seconds"] for row in read_rows(run.table("timing")) if not math.isnan(row["seconds"])]
        gradients = read_rows(run.table("gradients"))
        self.gradient_epochs = [row["epoch"] for row in gradients]
        self.gradients = [{key: value for key, value in row.items() if key != "epoch"} for row in gradients]

    def column(self, name: str, scale: float = 1, over_time: bool = False) -> Curve:
        """Return a column of ``metrics.csv`` against epochs, or against the seconds of training."""
        values = [scale * row.get(name, math.nan) for row in self.metrics]
        if all(map(math.isnan, values)):
            return [], []
        seconds = list(accumulate(self.seconds))
        return (seconds, values[: len(seconds)]) if over_time else ([row["epoch"] for row in self.metrics], values)

    def gradient_ratios(self) -> Curve:
        """Return the ratio of the first layer's gradient to the last layer's against epochs."""
        return self.gradient_epochs, [first_to_last_ratio(gradients) for gradients in self.gradients]

    def last_gradients(self) -> Curve:
        """Return the gradients of the last epoch against the numbers of the layers."""
        values = list(self.gradients[-1].values()) if self.gradients else []
        return range(1, len(values) + 1), values


def _curves(comparison: Comparison, tables: Mapping[str, Sequence[_Tables]]) -> Section:
    """Return what was recorded after each epoch, and the layers after the last one."""
    metric = comparison.metric

    def curves(curve: Callable[[_Tables], Curve]) -> dict[str, list[Curve]]:
        by_method = {method: map(curve, runs) for method, runs in tables.items()}
        return {method: [(xs, ys) for xs, ys in pairs if len(ys)] for method, pairs in by_method.items()}

    def column(name: str, *options: Any) -> dict[str, list[Curve]]:
        return curves(lambda run: run.column(name, *options))

    has_validation = any(column(f"validation_{metric.name}").values())
    part, data = ("validation", "validation data") if has_validation else ("train", "training data")
    name, title = f"{part}_{metric.name}", metric.label("{} on " + data)
    # Networks of different depth share the number of a layer, not its name.
    names = {tuple(run.gradients[-1]) for runs in tables.values() for run in runs if run.gradients} - {()}
    longest = max(names, key=len, default=())
    layers = longest if len(names) == 1 else [str(index + 1) for index in range(len(longest))]
    panels = [
        plots.Panel(title, "epoch", column(name, metric.scale), chance=comparison.chance),
        plots.Panel(title, "seconds of training", column(name, metric.scale, True), chance=comparison.chance),
        plots.Panel("loss on validation data", "epoch", column("validation_loss")),
        plots.Panel("lambda (weight of the branches)", "epoch", column("lambda")),
        plots.Panel("firing rate (spikes per neuron and time step)", "epoch", column("firing_rate")),
        plots.Panel("gradient of the weights, first layer / last", "epoch", curves(_Tables.gradient_ratios), log=True),
        plots.Panel(
            "gradient RMS of the weights, last epoch", "layer", curves(_Tables.last_gradients), log=True, layers=layers
        ),
    ]
    text = "A line is the mean over runs, a band their range."
    return Section("Over epochs, time and layers", text, [picture("", partial(plots.method_panels, panels))])


def _recipes(runs: Mapping[str, Sequence[RunFolder]]) -> list[Section]:
    """Return the entries in which the recipes of the methods' first runs differ."""
    recipes = {method: dict(entry_texts(folders[0].read_entries())) for method, folders in runs.items()}
    keys = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    varied = [key for key in keys if len({recipe.get(key, "-") for recipe in recipes.values()}) > 1]
    # Entries are many and methods few: a row for each entry keeps the table within the page.
    rows = [[key, *(recipe.get(key, "-") for recipe in recipes.values())] for key in varied]
    return [Section("Recipes: differences", tables=[Table(["entry", *recipes], rows)])] if varied else []
