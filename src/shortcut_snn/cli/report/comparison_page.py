"""The page of a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from ... import plots
from ..._utils.files import read_json
from ..._utils.statistics import mean_interval
from ...measurement import first_to_last_ratio
from ...training import RunFolder, format_duration, read_rows
from .._entries import entry_texts
from .._page import Page, Section, Table, all_columns, entries_section, picture
from ..compare import Comparison
from .run_page import network_and_data

Curve = tuple[Sequence[float], Sequence[float]]
"""The x and the y values of a run."""
Folders = Mapping[str, Sequence[RunFolder]]
"""The folders of finished runs, by method."""


def comparison_page(folder: Path) -> Page:
    """Return the page of a comparison, with the runs that have finished."""
    comparison = Comparison.read(folder)
    runs = {
        label: [RunFolder(folder / comparison.folders[label] / f"seed{seed}") for seed in results]
        for label, results in comparison.finished.items()
    }
    methods, first = list(runs), next(iter(runs.values()))[0]
    environment = read_json(first.environment)
    answer, sentence = _verdict(comparison)
    seconds = [second for folders in runs.values() for run in folders for second in _seconds(run)]
    return Page(
        f"{network_and_data(first.read_entries())}: comparison in {folder}",
        ", ".join(methods),
        answer,
        [sentence],
        [
            ("methods", str(len(methods))),
            ("runs", str(sum(map(len, runs.values())))),
            ("time in training, all runs", format_duration(sum(seconds))),
        ],
        [
            _methods(comparison),
            _curves(comparison, runs),
            *_recipes(runs),
            Section("Runs", tables=[all_columns(comparison.run_rows(), "all figures of every run")]),
            *entries_section("Environment of the first run", environment),
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
    """Return the methods that the best one is not clearly better than, over runs with the same seed."""
    values, unclear = comparison.values(best), []
    for label in comparison.finished:
        others = comparison.values(label)
        difference = mean_interval([values[seed] - others[seed] for seed in values if seed in others])
        if label != best and comparison.metric.describe_difference(*difference) != "clearly better":
            unclear.append(label)
    return unclear


def _methods(comparison: Comparison) -> Section:
    text = (
        "Means with 95 % intervals (Student's t over seeds), on test data. Differences are between runs with the same "
        "seed; one is clear if its interval excludes 0. Gradient ratios are of the first layer to the last."
    )
    return Section("Methods", text, [picture("Mean, interval and runs", comparison.draw)], [Table(*comparison.table())])


# Curves.


def _curves(comparison: Comparison, runs: Folders) -> Section:
    """Return what was recorded after each epoch, and the layers after the last one."""
    metric = comparison.metric

    def curves(curve: Callable[[RunFolder], Curve]) -> dict[str, list[Curve]]:
        by_method = {method: [curve(run) for run in folders] for method, folders in runs.items()}
        return {method: [(xs, ys) for xs, ys in of if len(ys)] for method, of in by_method.items()}

    def column(name: str, scale: float = 1, over_time: bool = False) -> dict[str, list[Curve]]:
        return curves(partial(_column, name=name, scale=scale, over_time=over_time))

    has_validation = any(column(f"validation_{metric.name}").values())
    part, data = ("validation", "validation data") if has_validation else ("train", "training data")
    name, title = f"{part}_{metric.name}", metric.label("{} on " + data)
    panels = [
        plots.Panel(title, "epoch", column(name, metric.scale), chance=comparison.chance),
        plots.Panel(title, "seconds of training", column(name, metric.scale, True), chance=comparison.chance),
    ]
    panels += [
        plots.Panel("loss on validation data", "epoch", column("validation_loss")),
        plots.Panel("lambda (weight of the branches)", "epoch", column("lambda")),
        plots.Panel("firing rate (spikes per neuron and time step)", "epoch", column("firing_rate")),
        plots.Panel("gradient of the weights, first layer / last", "epoch", curves(_gradient_ratios), log=True),
    ]
    names = {tuple(_last_gradients(run)) for folders in runs.values() for run in folders} - {()}
    longest = max(names, key=len, default=())
    # Networks of different depth share the number of a layer, not its name.
    layers = longest if len(names) == 1 else [str(index + 1) for index in range(len(longest))]
    title = "gradient RMS of the weights, last epoch"
    panels.append(plots.Panel(title, "layer", curves(_gradients_by_layer), log=True, layers=layers))
    text = "A line is the mean over runs, a band their range."
    return Section("Over epochs, time and layers", text, [picture("", partial(plots.method_panels, panels))])


def _column(run: RunFolder, name: str, scale: float, over_time: bool) -> Curve:
    """Return a column of ``metrics.csv`` against epochs, or against the seconds of training."""
    rows = read_rows(run.table("metrics"))
    values = [scale * row.get(name, math.nan) for row in rows]
    if all(map(math.isnan, values)):
        return [], []
    if over_time:
        seconds = list(accumulate(_seconds(run)))
        return seconds, values[: len(seconds)]
    return [row["epoch"] for row in rows], values


def _seconds(run: RunFolder) -> list[float]:
    """Return the training time of each epoch."""
    return [row["seconds"] for row in read_rows(run.table("timing")) if not math.isnan(row["seconds"])]


def _gradients(run: RunFolder) -> list[tuple[float, dict[str, float]]]:
    """Return each epoch, and its gradients by layer."""
    rows = read_rows(run.table("gradients"))
    return [(row["epoch"], {key: value for key, value in row.items() if key != "epoch"}) for row in rows]


def _gradient_ratios(run: RunFolder) -> Curve:
    rows = _gradients(run)
    return [epoch for epoch, _ in rows], [first_to_last_ratio(gradients) for _, gradients in rows]


def _last_gradients(run: RunFolder) -> dict[str, float]:
    rows = _gradients(run)
    return rows[-1][1] if rows else {}


def _gradients_by_layer(run: RunFolder) -> Curve:
    values = list(_last_gradients(run).values())
    return range(1, len(values) + 1), values


def _recipes(runs: Folders) -> list[Section]:
    """Return the entries in which the recipes of the methods' first runs differ."""
    recipes = {method: dict(entry_texts(folders[0].read_entries())) for method, folders in runs.items()}
    keys = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    varied = [key for key in keys if len({recipe.get(key) for recipe in recipes.values()}) > 1]
    rows = [[method, *(recipe.get(key, "-") for key in varied)] for method, recipe in recipes.items()]
    return [Section("Recipes: differences", tables=[Table(["method", *varied], rows)])] if varied else []
