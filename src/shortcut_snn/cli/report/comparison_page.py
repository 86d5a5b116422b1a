"""The page of a comparison."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from ... import plots
from ...diagnosis import first_to_last_ratio
from ...files import read_json
from ...training import Metric, RunFolder, format_duration
from ..compare import FIGURES, comparison_table
from .page import Page, Section, Table, all_columns, entries_section, picture
from .reading import entry_texts, number_at, read_rows
from .run_page import network_and_data, origin

COMPARISON = "comparison.csv"
LINES = "A line is the mean over runs, a band their range."
Curve = tuple[Sequence[float], Sequence[float]]
"""The x and the y values of a run."""


class Comparison:
    """The files of a comparison.

    Args:
        folder: of the comparison.

    Raises:
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        means = [f"{name}{suffix}" for name in ("last", "best", "difference") for suffix in ("", "_interval")]
        self.rows = read_rows(folder / COMPARISON, ["n", *means, *FIGURES], ["variant"])
        description = read_json(folder / "comparison.json")
        if not self.rows or "metric" not in description:
            raise ValueError(f"{folder / COMPARISON} or comparison.json is damaged: repeat the compare command")
        self.metric = Metric.of(description)
        self.methods = [str(row["variant"]) for row in self.rows]
        self.baseline = str(description.get("baseline", self.methods[0]))
        tuned = description.get("tuned")
        self.tuned = tuned if isinstance(tuned, dict) else {}
        columns = ["seed", f"test_last.{self.metric.name}"]
        self.runs = read_rows(folder / "runs.csv", columns, ["variant", "folder"], mixed=True)
        if not set(self.methods) <= {run["variant"] for run in self.runs} or any(
            math.isnan(run["seed"]) for run in self.runs
        ):
            raise ValueError(f"{folder / 'runs.csv'} is damaged: repeat the compare command")
        chances = [self.metric.scale * number_at(run, "chance") for run in self.runs]
        self.chance = next((chance for chance in chances if not math.isnan(chance)), None)
        self.folders: dict[str, list[RunFolder]] = {method: [] for method in self.methods}
        for run in self.runs:
            run_folder = RunFolder(folder / run["folder"] / f"seed{run['seed']:.0f}")
            if run["variant"] in self.folders and run_folder.is_run:
                self.folders[run["variant"]].append(run_folder)

    @property
    def first(self) -> RunFolder | None:
        """The folder of the first run that is there."""
        return next((folder for folders in self.folders.values() for folder in folders), None)

    def values(self, method: str) -> list[float]:
        """Return the metric of a method's runs on test data after the last epoch, as it is shown."""
        column = f"test_last.{self.metric.name}"
        return [self.metric.scale * run[column] for run in self.runs if run["variant"] == method]

    def curves(self, curve: Callable[[RunFolder], Curve]) -> dict[str, list[Curve]]:
        """Return a curve of every run, by method; runs without values are left out."""
        curves = {method: [curve(run) for run in folders] for method, folders in self.folders.items()}
        return {method: [(xs, ys) for xs, ys in of if ys] for method, of in curves.items()}


def comparison_page(folder: Path) -> Page:
    """Return the page of a comparison, with the runs that have finished.

    Raises:
        ValueError: a file is damaged.
    """
    comparison = Comparison(folder)
    first, methods = comparison.first, comparison.methods
    environment = read_json(first.environment) if first else {}
    names = ", ".join(methods[:4]) + (", ..." if methods[4:] else "")
    answer, sentence = _verdict(comparison)
    return Page(
        f"{network_and_data(first.read_entries() if first else {})}: comparison {folder.name}",
        f"{names} · {origin(environment)}",
        answer,
        [sentence],
        _facts(comparison),
        [
            *_progress(comparison),
            _methods(comparison),
            *_tuning(folder),
            *_epochs_and_layers(comparison),
            *_recipes(comparison),
            Section("Runs", tables=[all_columns(comparison.runs, "all figures of every run")]),
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
    sentence = f"{best['variant']} is best in {metric.title} on test data: {reached} on average"
    if best["variant"] == comparison.baseline or math.isnan(best["difference"]):
        return reached, f"{sentence}."
    pair = (best["difference"], best["difference_interval"])
    difference, judgement = metric.format_interval(*pair, "+"), metric.describe_difference(*pair)
    return reached, f"{sentence}; against {comparison.baseline} with the same seeds {difference}: {judgement}."


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    metric, chance = comparison.metric, comparison.chance
    seeds = {run["seed"] for run in comparison.runs}
    seconds = [second for folders in comparison.folders.values() for run in folders for second in _seconds(run)]
    facts = [
        ("methods", str(len(comparison.rows))),
        ("seeds", str(len(seeds))),
        ("runs", str(len(comparison.runs))),
        ("chance", "-" if chance is None else metric.format(chance / metric.scale)),
        ("time in training, all runs", format_duration(sum(seconds)) if seconds else "-"),
    ]
    return [(name, value) for name, value in facts if value != "-"]


def _methods(comparison: Comparison) -> Section:
    rows, metric = comparison.rows, comparison.metric
    text = (
        "Means with 95 % intervals (Student's t over seeds), on test data. Differences are between runs with the same "
        "seed; one is clear if its interval excludes 0. Gradient ratios are of the first layer to the last."
    )

    def draw(path: Path) -> None:
        values = [comparison.values(method) for method in comparison.methods]
        intervals = [row["last_interval"] for row in rows]
        title = metric.label("test {} after the last epoch")
        plots.comparison(comparison.methods, values, intervals, path, title, comparison.chance)

    table = comparison_table(rows, metric, comparison.baseline, comparison.tuned)
    return Section("Methods", text, [picture("Mean, interval and runs", draw)], [Table(*table)])


def _tuning(folder: Path) -> list[Section]:
    rows = read_rows(folder / "tuning.csv", text=["variant", "outcome"], mixed=True)
    text = "Each method trains with the value that was best for it on validation data after the last epoch (one seed)."
    return [Section("Tuning", text, tables=[all_columns(rows, "all values")])] if rows else []


# Curves.


def _progress(comparison: Comparison) -> list[Section]:
    """Return the metric against epochs and against time, on validation data or else on training data."""
    metric = comparison.metric
    for part, data in (("validation", "validation data"), ("train", "training data")):
        curve = partial(_column, name=f"{part}_{metric.name}", scale=metric.scale)
        against_epochs = comparison.curves(curve)
        if any(against_epochs.values()):
            against_time = comparison.curves(partial(curve, over_time=True))
            title = metric.label("{} on " + data)
            panels = [
                plots.Panel(title, "epoch", against_epochs, chance=comparison.chance),
                plots.Panel(title, "seconds of training", against_time, chance=comparison.chance),
            ]
            text = f"{metric.title.capitalize()} on {data}. {LINES}"
            return [Section("Against epochs and time", text, [picture("", partial(plots.method_panels, panels))])]
    return []


def _epochs_and_layers(comparison: Comparison) -> list[Section]:
    """Return what else was recorded after each epoch, and the layers after the last one."""
    panels = [
        plots.Panel(title, "epoch", comparison.curves(partial(_column, name=name)))
        for title, name in (
            ("loss on validation data", "validation_loss"),
            ("lambda (weight of the branches)", "lambda"),
            ("firing rate (spikes per neuron and time step)", "firing_rate"),
        )
    ]
    ratios = comparison.curves(_gradient_ratios)
    panels.append(plots.Panel("gradient of the weights, first layer / last", "epoch", ratios, log=True))
    panels.append(_layer_panel("gradient RMS of the weights, last epoch", comparison, _last_gradients, log=True))
    panels.append(_layer_panel("firing rate, last epoch", comparison, _last_rates, log=False))
    panels = [panel for panel in panels if _has_values(panel)]
    if not panels:
        return []
    return [Section("Over epochs and layers", LINES, [picture("", partial(plots.method_panels, panels))])]


def _has_values(panel: plots.Panel) -> bool:
    """Return whether a panel shows anything but zeros: without branches lambda is 0 throughout."""
    return any(
        math.isfinite(value) and value != 0 for runs in panel.runs.values() for _, values in runs for value in values
    )


def _column(run: RunFolder, name: str, scale: float = 1, over_time: bool = False) -> Curve:
    """Return a column of ``metrics.csv`` against epochs, or against the seconds of training."""
    rows = read_rows(run.table("metrics"), ["epoch"])
    values = [scale * row.get(name, math.nan) for row in rows]
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
    return [epoch for epoch, _ in rows], [first_to_last_ratio(gradients) for _, gradients in rows]


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
    names = {tuple(values(run)) for folders in comparison.folders.values() for run in folders} - {()}
    longest = max(names, key=len, default=())
    layers = longest if len(names) == 1 else [str(index + 1) for index in range(len(longest))]

    def curve(run: RunFolder) -> Curve:
        by_layer = list(values(run).values())
        return range(1, len(by_layer) + 1), by_layer

    return plots.Panel(title, "layer", comparison.curves(curve), log, layers)


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
