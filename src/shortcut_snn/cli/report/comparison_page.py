"""The page on a comparison."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...diagnosis.gradients import shallow_to_deep
from ...files import read_json
from ...training import ENERGY_COLUMNS, Metric, RunFolder, column_title, format_duration, format_value
from ..compare import FIGURES, comparison_table
from . import chart
from .html import Page, Section, Table, all_columns
from .reading import Row, read_rows, texts
from .run_page import origin, pairs, subtitle

COMPARISON = "comparison.csv"
Places = dict[str, list[RunFolder]]
Lines = Mapping[str, Sequence[Sequence[float]]]
"""By method, the values of each of its runs."""
Guess = tuple[str, float] | None
Bounds = tuple[float, float] | None


def comparison_page(folder: Path) -> Page:
    """Return the page on a comparison: what has finished of it.

    Raises:
        ValueError: one of its files is damaged.
    """
    means = [f"{name}{end}" for name in ("last", "best", "difference") for end in ("", "_interval")]
    rows = read_rows(folder / COMPARISON, ["n", *means, *FIGURES], ["variant"])
    about = read_json(folder / "comparison.json")
    if not rows or "metric" not in about:
        raise ValueError(f"{folder / COMPARISON} or comparison.json is damaged: give the same compare command again")
    metric, baseline = Metric.of(about), str(about.get("baseline", rows[0]["variant"]))
    last = f"test_last.{metric.name}"
    runs = read_rows(folder / "runs.csv", ["seed", last], ["variant", "folder"], mixed=True)
    labels = [str(row["variant"]) for row in rows]
    values = [[metric.scale * run[last] for run in runs if run["variant"] == label] for label in labels]
    if not all(values) or any(math.isnan(run["seed"]) for run in runs):
        raise ValueError(f"{folder / 'runs.csv'} is damaged: give the same compare command again")
    places = {label: _places(folder, label, runs) for label in labels}
    chances = [value for run in runs if isinstance(value := run.get("chance"), float)]
    chance = next((metric.scale * value for value in chances if not math.isnan(value)), None)
    guessing = None if chance is None else ("chance", chance)
    bounds = (0.0, 100.0) if metric.fraction else None
    drawn = chart.dots(
        metric.label("test {} after the last epoch"),
        [
            (label, found, row["last"], row["last_interval"])
            for label, found, row in zip(labels, values, rows, strict=True)
        ],
        guessing,
        bounds,
    )
    first = next((found[0] for found in places.values() if found), None)
    environment = read_json(first.environment) if first else {}
    text = (
        "Means with 95 % intervals (Student's t over seeds), on test data; a ring is a run. Differences are between "
        "runs with the same seed; one is clear where its interval leaves out 0. Gradient ratios are of the first layer "
        "to the last."
    )
    tuned = about.get("tuned")
    methods = comparison_table(rows, metric, baseline, tuned if isinstance(tuned, dict) else None)
    seeds = {run["seed"] for run in runs}
    facts = [("methods", str(len(rows))), ("seeds", str(len(seeds))), ("runs", str(len(runs)))]
    if chance is not None:
        facts.append(("chance", metric.format(chance / metric.scale)))
    facts += _spent(places)
    about_runs = first.read_entries() if first else {}
    answer, said = verdict(rows, metric, baseline, chance)
    return Page(
        f"{subtitle(about_runs)}: comparison {folder.name}",
        f"{', '.join(labels[:4])}{', ...' if labels[4:] else ''}",
        answer,
        [said],
        facts,
        [
            *_progress(places, metric, guessing, bounds),
            Section("Methods", text, [drawn], [Table(*methods)]),
            *_tuning(folder),
            *_curves(places),
            *_energy(labels, runs),
            *_recipes(places),
            Section("Runs", tables=[all_columns(runs, "all figures of every run")]),
            *pairs("Environment of the first run", environment),
        ],
        origin(environment)[0],
    )


def verdict(rows: Sequence[Row], metric: Metric, baseline: str, chance: float | None) -> tuple[str, str]:
    """Return the best method's figure, if it means something, and a sentence on it."""
    known = [row for row in rows if math.isfinite(row["last"])]
    if not known:
        return "", f"No method reached a {metric.title} that is a number."
    best = (max if metric.higher_is_better else min)(known, key=lambda row: row["last"])
    half = 0.0 if math.isnan(best["last_interval"]) else best["last_interval"]
    worst = best["last"] - half if metric.higher_is_better else best["last"] + half
    if chance is not None and not metric.is_better(worst, chance):
        return "", f"No method is clearly better than guessing; {best['variant']} comes first in {metric.title}."
    reached = f"{metric.format_interval(best['last'], best['last_interval'])}{' %' if metric.fraction else ''}"
    said = f"{best['variant']} is best in {metric.title} on test data: {reached} on average"
    if best["variant"] == baseline or math.isnan(best["difference"]):
        return reached, f"{said}."
    pair = (best["difference"], best["difference_interval"])
    difference, clear = metric.format_interval(*pair, "+"), metric.describe_difference(*pair)
    return reached, f"{said}; against {baseline} with the same seeds {difference}: {clear}."


def _tuning(folder: Path) -> list[Section]:
    rows = read_rows(folder / "tuning.csv", text=["variant", "outcome"], mixed=True)
    text = "Each method was first given its own best of these, by validation data after the last epoch; one seed."
    return [Section("Tuning", text, tables=[all_columns(rows, "all of them")])] if rows else []


def _places(folder: Path, label: str, runs: list[Row]) -> list[RunFolder]:
    found = [RunFolder(folder / run["folder"] / f"seed{run['seed']:.0f}") for run in runs if run["variant"] == label]
    return [place for place in found if place.is_run]


def _spent(places: Places) -> list[tuple[str, str]]:
    """How long all of it trained."""
    found = [row["seconds"] for of in places.values() for place in of for row in _timing(place)]
    return [("time in training, all runs", format_duration(sum(found)))] if found else []


def _timing(place: RunFolder) -> list[Row]:
    rows = read_rows(place.table("timing"), ["epoch", "seconds"])
    return [row for row in rows if not math.isnan(row["seconds"])]


def _progress(places: Places, metric: Metric, guessing: Guess, bounds: Bounds) -> list[Section]:
    """The metric over epochs and over time."""
    for part, words in (("validation", "validation data"), ("train", "training data")):
        runs: dict[str, list[list[float]]] = {}
        seconds: dict[str, list[list[float]]] = {}
        for label, of_label in places.items():
            for place in of_label:
                if values := _column(place, f"{part}_{metric.name}"):
                    runs.setdefault(label, []).append([metric.scale * value for value in values])
                    seconds.setdefault(label, []).append(list(accumulate(row["seconds"] for row in _timing(place))))
        if runs:
            options: dict[str, Any] = {"mark": guessing, "bounds": bounds}
            title = metric.label("{} on " + words)
            epochs = {label: [list(range(1, len(run) + 1)) for run in of] for label, of in runs.items()}
            drawn = [
                chart.lines(f"{title}, against epochs", _bands(epochs, runs), "epoch", **options),
                chart.lines(
                    f"{title}, against time", _bands(seconds, runs), "seconds of training", whole=False, **options
                ),
            ]
            text = f"{metric.title.capitalize()} on {words}; a line is the mean over runs, a band their range."
            return [Section("Against epochs and time", text, drawn)]
    return []


def _bands(across: Lines, lines: Lines) -> list[chart.Line]:
    """A line a method, and a band where it has several runs; of runs of unequal length what all have."""
    drawn = []
    for label, runs in lines.items():
        xs = [sum(values) / len(values) for values in zip(*across[label], strict=False)]
        columns = list(zip(*runs, strict=False))[: len(xs)]
        points = [(x, sum(values) / len(values)) for x, values in zip(xs, columns, strict=False)]
        low, high = ([end(values) for values in columns] if len(runs) > 1 else [] for end in (min, max))
        drawn.append(chart.Line(label, points, low, high))
    return drawn


def _column(place: RunFolder, *columns: str) -> list[float]:
    """Of the first column that says anything."""
    rows = read_rows(place.table("metrics"), ["epoch"])
    for column in columns:
        values = [row.get(column, math.nan) for row in rows]
        if not all(map(math.isnan, values)):
            return values
    return []


def _curves(places: Places) -> list[Section]:
    """What else each epoch brought, and how the layers ended."""
    drawn: list[Markup] = []

    def over(title: str, lines: dict[str, list[list[float]]], log: bool = False) -> None:
        found = {label: [run for run in runs if run] for label, runs in lines.items()}
        found = {label: runs for label, runs in found.items() if runs}
        epochs = {label: [list(range(1, len(run) + 1)) for run in runs] for label, runs in found.items()}
        drawn.append(chart.lines(title, _bands(epochs, found), "epoch", log=log))

    def ends(title: str, runs: dict[str, list[dict[str, float]]], log: bool) -> None:
        found = {label: [run for run in of if run] for label, of in runs.items() if any(of)}
        if found:
            names = {tuple(run) for of in found.values() for run in of}
            # Networks of several depths share the number of a layer, not its name.
            layers = max(names, key=len) if len(names) > 1 else next(iter(names))
            shown = list(layers) if len(names) == 1 else [str(place + 1) for place in range(len(layers))]
            lines = {label: [list(run.values()) for run in of] for label, of in found.items()}
            numbers = {label: [list(range(1, len(run) + 1)) for run in of] for label, of in lines.items()}
            drawn.append(chart.lines(title, _bands(numbers, lines), "layer", log=log, names=shown))

    for columns, title in (
        (["validation_loss"], "loss on validation data"),
        (["train_main_loss", "train_loss"], "loss of the network's own output in training"),
        (["lambda"], "lambda, the weight of the branches"),
        (["firing_rate"], "firing rate"),
    ):
        over(title, {label: [_column(place, *columns) for place in of] for label, of in places.items()})
    gradients = {label: [_gradients(place) for place in of] for label, of in places.items()}
    ratios = {label: [list(map(shallow_to_deep, rows)) for rows in of] for label, of in gradients.items()}
    over("gradient of the weights, first layer / last", ratios, log=True)
    last = {label: [rows[-1] for rows in of if rows] for label, of in gradients.items()}
    ends("gradient RMS of the weights after the last epoch", last, log=True)
    rates = {label: [_rates(place.table("layers")) for place in of] for label, of in places.items()}
    ends("firing rate after the last epoch", rates, log=False)
    drawn = [each for each in drawn if each]
    text = "A line is the mean over runs, a band their range."
    return [Section("Over epochs and layers", text, drawn)] if drawn else []


def _gradients(place: RunFolder) -> list[dict[str, float]]:
    """Each epoch's gradients by layer."""
    rows = read_rows(place.table("gradients"), ["epoch"])
    return [{key: value for key, value in row.items() if key != "epoch"} for row in rows]


def _rates(path: Path) -> dict[str, float]:
    rows = read_rows(path, ["epoch", "rate"], ["layer"])
    return {row["layer"]: row["rate"] for row in rows if row["epoch"] == rows[-1]["epoch"]}


def _energy(labels: list[str], runs: list[Row]) -> list[Section]:
    rows = []
    for label in labels:
        known = [run for run in runs if run["variant"] == label and isinstance(run.get("energy_pj"), float)]
        known = [run for run in known if not math.isnan(run["energy_pj"])]
        if known:
            means = [sum(run.get(f"{name}_pj", math.nan) for run in known) / len(known) for name in ENERGY_COLUMNS]
            rows.append([label, *(format_value(mean / 1000) for mean in means)])
    columns = [
        "method",
        "energy of an input, nJ (mean over runs)",
        *(column_title(f"{name}_pj") for name in ENERGY_COLUMNS[1:]),
    ]
    return [Section("Energy", "45 nm (Horowitz, ISSCC 2014).", tables=[Table(columns, rows)])] if rows else []


def _recipes(places: Places) -> list[Section]:
    """What the methods' recipes share, and in what they differ."""
    recipes = {label: dict(texts(found[0].read_entries())) for label, found in places.items() if found}
    keys = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    varied = [key for key in keys if len({recipe.get(key) for recipe in recipes.values()}) > 1]
    different = [[label, *(recipe.get(key, "-") for key in varied)] for label, recipe in recipes.items()]
    shared = [(key, next(iter(recipes.values()))[key]) for key in keys if key not in varied]
    sections = [Section("Recipes: what differs", tables=[Table(["method", *varied], different)])] if varied else []
    text = "Of each method's first run."
    return [*sections, Section("Recipes: what is shared", text, tables=[Table((), shared, "all entries")])]
