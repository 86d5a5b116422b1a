"""The page on a comparison."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from markupsafe import Markup

from ...analysis import plots
from ...files import read_json
from ...runs import RunFolder
from ...runs.tables import Metric, show
from ..compare import FIGURES, comparison_table
from .html import Page, Section, Table, all_columns, picture
from .reading import Row, read_rows, texts
from .run_page import origin, pairs, subtitle

COMPARISON = "comparison.csv"
Places = dict[str, list[RunFolder]]


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
    drawn = partial(
        plots.comparison,
        labels,
        values,
        [row["last_interval"] for row in rows],
        what=metric.label("test {} after the last epoch"),
        chance=chance,
        bounds=(0, 100) if metric.fraction else None,
    )
    first = next((found[0] for found in places.values() if found), None)
    environment = read_json(first.environment) if first else {}
    text = (
        "Means with 95 % intervals (Student's t over seeds), on test data. Differences are between runs with the same "
        "seed; one is clear where its interval leaves out 0. Gradient ratios are of the first layer to the last."
    )
    tuned = about.get("tuned")
    methods = comparison_table(rows, metric, baseline, tuned if isinstance(tuned, dict) else None)
    facts = [("methods", str(len(rows))), ("runs", str(len(runs)))]
    if chance is not None:
        facts.append(("chance", metric.show(chance / metric.scale)))
    return Page(
        f"Comparison {folder.name}",
        subtitle(first.read_entries() if first else {}),
        facts,
        [
            Section("Methods", text, [picture("comparison", drawn)], Table(*methods)),
            *_tuning(folder),
            *_progress(places, metric),
            *_curves(places),
            *_energy(labels, runs),
            Section("Runs", table=all_columns(runs), folded=True),
            *_recipes(places),
            *pairs("Environment of the first run", environment),
        ],
        [verdict(rows, metric, baseline, chance)],
        *origin(environment),
    )


def verdict(rows: Sequence[Row], metric: Metric, baseline: str, chance: float | None) -> str:
    """Return a sentence on which method is best, and whether that means something."""
    known = [row for row in rows if math.isfinite(row["last"])]
    if not known:
        return f"No method reached a {metric.words} that is a number."
    best = (max if metric.higher_is_better else min)(known, key=lambda row: row["last"])
    half = 0.0 if math.isnan(best["last_interval"]) else best["last_interval"]
    worst = best["last"] - half if metric.higher_is_better else best["last"] + half
    if chance is not None and not metric.better(worst, chance):
        return f"No method is clearly better than guessing; {best['variant']} comes first in {metric.words}."
    reached = f"{metric.within(best['last'], best['last_interval'])}{' %' if metric.fraction else ''}"
    said = f"{best['variant']} is best in {metric.words} on test data: {reached} on average"
    if best["variant"] == baseline or math.isnan(best["difference"]):
        return f"{said}."
    pair = (best["difference"], best["difference_interval"])
    difference, clear = metric.within(*pair, "+"), metric.clearly(*pair)
    return f"{said}; against {baseline} with the same seeds {difference}: {clear}."


def _tuning(folder: Path) -> list[Section]:
    rows = read_rows(folder / "tuning.csv", text=["variant", "outcome"], mixed=True)
    text = "Each method was first given its own best of these, by validation data after the last epoch; one seed."
    return [Section("Tuning", text, table=all_columns(rows))] if rows else []


def _places(folder: Path, label: str, runs: list[Row]) -> list[RunFolder]:
    found = [RunFolder(folder / run["folder"] / f"seed{run['seed']:.0f}") for run in runs if run["variant"] == label]
    return [place for place in found if place.is_run]


def _progress(places: Places, metric: Metric) -> list[Section]:
    """The metric over epochs and over time."""
    for part, words in (("validation", "validation data"), ("train", "training data")):
        lines: dict[str, list[list[float]]] = {}
        seconds: dict[str, list[list[float]]] = {}
        for label, of_label in places.items():
            for place in of_label:
                values = _column(place, f"{part}_{metric.name}")
                times = [row["seconds"] for row in read_rows(place.table("timing"), ["epoch", "seconds"])]
                if values:
                    lines.setdefault(label, []).append([metric.scale * value for value in values])
                    seconds.setdefault(label, []).append(list(accumulate(times)))
        if lines:
            drawn = partial(plots.progress, lines, seconds, what=metric.label("{} on " + words))
            text = f"{metric.words.capitalize()} on {words}; a line is the mean over runs, a band their range."
            return [Section("Against epochs and time", text, [picture("progress", drawn)])]
    return []


def _column(place: RunFolder, column: str) -> list[float]:
    values = [row.get(column, math.nan) for row in read_rows(place.table("metrics"), ["epoch"])]
    return [] if all(map(math.isnan, values)) else values


def _curves(places: Places) -> list[Section]:
    """What else each epoch brought, and how the layers ended."""
    drawn: list[Markup] = []

    def over(name: str, what: str, lines: dict[str, list[list[float]]], log: bool = False) -> None:
        found = {label: [run for run in runs if run] for label, runs in lines.items()}
        found = {label: runs for label, runs in found.items() if runs}
        if found:
            drawn.append(picture(name, partial(plots.several, found, what=what, log=log)))

    def ends(name: str, what: str, runs: dict[str, list[dict[str, float]]], log: bool) -> None:
        found = {label: [run for run in of if run] for label, of in runs.items() if any(of)}
        if found:
            names = {tuple(run) for of in found.values() for run in of}
            # Networks of several depths share the number of a layer, not its name.
            layers = max(names, key=len) if len(names) > 1 else next(iter(names))
            shown = list(layers) if len(names) == 1 else [str(place + 1) for place in range(len(layers))]
            lines = {label: [list(run.values()) for run in of] for label, of in found.items()}
            drawn.append(picture(name, partial(plots.several, lines, what=what, log=log, names=shown)))

    for column, what in (
        ("validation_loss", "loss on validation data"),
        ("train_loss", "loss in training, that of the branches included"),
        ("lambda", "lambda (weight of the branches)"),
        ("firing_rate", "firing rate"),
    ):
        over(column, what, {label: [_column(place, column) for place in of] for label, of in places.items()})
    ratios = {label: [_ratios(place) for place in of] for label, of in places.items()}
    over("ratios", "gradient, first layer / last", ratios, log=True)
    last = {label: [_last(place.table("gradients")) for place in of] for label, of in places.items()}
    ends("gradients", "gradient RMS of the weights after the last epoch", last, log=True)
    rates = {label: [_rates(place.table("layers")) for place in of] for label, of in places.items()}
    ends("layers", "firing rate after the last epoch", rates, log=False)
    text = "A line is the mean over runs, a band their range."
    return [Section("Over epochs and layers", text, drawn)] if drawn else []


def _last(path: Path) -> dict[str, float]:
    rows = read_rows(path, ["epoch"])
    return {key: value for key, value in rows[-1].items() if key != "epoch"} if rows else {}


def _rates(path: Path) -> dict[str, float]:
    rows = read_rows(path, ["epoch", "rate"], ["layer"])
    return {row["layer"]: row["rate"] for row in rows if row["epoch"] == rows[-1]["epoch"]}


def _ratios(place: RunFolder) -> list[float]:
    rows = [[value for key, value in row.items() if key != "epoch"] for row in read_rows(place.table("gradients"))]
    return [row[0] / row[-1] for row in rows if row and row[-1]]


def _energy(labels: list[str], runs: list[Row]) -> list[Section]:
    rows = []
    for label in labels:
        known = [run for run in runs if run["variant"] == label and isinstance(run.get("energy_pj"), float)]
        known = [run for run in known if not math.isnan(run["energy_pj"])]
        if known:
            means = [
                sum(run.get(key, math.nan) for run in known) / len(known) for key in ("energy_pj", "relu_energy_pj")
            ]
            rows.append([label, *(show(mean / 1000) for mean in means)])
    columns = ["method", "energy of an input, nJ (mean over runs)", "with ReLUs, nJ"]
    return [Section("Energy", "45 nm (Horowitz, ISSCC 2014).", table=Table(columns, rows))] if rows else []


def _recipes(places: Places) -> list[Section]:
    """What the methods' recipes share, and in what they differ."""
    recipes = {label: dict(texts(found[0].read_entries())) for label, found in places.items() if found}
    keys = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    varied = [key for key in keys if len({recipe.get(key) for recipe in recipes.values()}) > 1]
    different = [[label, *(recipe.get(key, "-") for key in varied)] for label, recipe in recipes.items()]
    shared = [(key, next(iter(recipes.values()))[key]) for key in keys if key not in varied]
    sections = [Section("Recipes: what differs", table=Table(["method", *varied], different))] if varied else []
    text = "Of each method's first run."
    return [*sections, Section("Recipes: what is shared", text, table=Table((), shared), folded=True)]
