"""The page on a comparison."""

import math
from functools import partial
from pathlib import Path

from markupsafe import Markup

from ... import __version__
from ...analysis import plots
from .. import recipe_io
from ..compare import variant_folder
from ..recipe import Recipe
from ..resume import RECIPE, RESULT
from .files import Row, flat, read_json, read_rows
from .html import Page, Section, Table, picture
from .run_page import all_columns, show

COMPARISON = "comparison.csv"


def comparison_page(folder: Path) -> Page:
    """Return the page on a comparison: what has finished of it.

    Raises:
        ValueError: one of its files is damaged.
    """
    rows, runs = read_rows(folder / COMPARISON), read_rows(folder / "runs.csv")
    if not rows or not runs:
        raise ValueError(f"{folder / COMPARISON} or runs.csv is damaged: give the same compare command again")
    labels = [str(row["variant"]) for row in rows]
    places = {label: _places(folder, label, runs) for label in labels}
    accuracies = [[100 * run["test_accuracy_last"] for run in runs if run["variant"] == label] for label in labels]
    intervals = [row["last_interval"] for row in rows]
    sections = [
        Section(
            "Accuracy",
            "Test accuracy after the last epoch, in %, with 95 % intervals (Student's t over seeds); differences are "
            f"to {labels[0]} with the same seed.",
            [picture("comparison", partial(plots.comparison, labels, accuracies, intervals))],
            all_columns(rows),
        ),
        *_curves(places),
        *_energy(places),
        Section(
            "Runs", table=Table(list(runs[0]), [[show(value) for value in run.values()] for run in runs]), folded=True
        ),
        *_recipes(places),
    ]
    best = max(rows, key=lambda row: row["last"])
    facts = [
        ("methods", str(len(rows))),
        ("runs", str(len(runs))),
        ("highest mean accuracy", f"{best['last']:.2f} % ({best['variant']})"),
    ]
    return Page(f"Comparison {folder.name}", f"shortcut-snn {__version__}", facts, sections)


def _places(folder: Path, label: str, runs: list[Row]) -> list[Path]:
    seeds = [int(run["seed"]) for run in runs if run["variant"] == label]
    return [place for seed in seeds if (place := folder / variant_folder(label) / f"seed{seed}").is_dir()]


def _curves(places: dict[str, list[Path]]) -> list[Section]:
    """What each epoch of each run brought, and how its layers ended."""
    found = {label: [read_rows(place / "metrics.csv") for place in of_label] for label, of_label in places.items()}
    drawn: list[Markup] = []
    for column, title in (
        ("validation_accuracy", "accuracy on validation data"),
        ("train_loss", "loss in training"),
        ("lambda", "lambda"),
        ("firing_rate", "firing rate"),
    ):
        lines = {label: [[row.get(column, math.nan) for row in rows] for rows in runs] for label, runs in found.items()}
        drawn += _several(column, title, lines)
    ratios = {label: [_ratios(place) for place in of_label] for label, of_label in places.items()}
    drawn += _several("ratios", "gradient, first layer / last", ratios, log=True)
    for name, title, column, log in (
        ("gradients", "gradient RMS of the weights after the last epoch", "", True),
        ("layers", "firing rate after the last epoch", "rate", False),
    ):
        ends = {label: [_last(place / f"{name}.csv", column) for place in of] for label, of in places.items()}
        drawn += _several(name, title, ends, log=log, across="layer (1 is the shallowest)")
    return [Section("Over epochs and layers", "Thick: the mean over seeds; thin: each run.", drawn)] if drawn else []


def _several(
    name: str, title: str, lines: dict[str, list[list[float]]], log: bool = False, across: str = "epoch"
) -> list[Markup]:
    """A picture of what was recorded, if anything was."""
    known = {label: [run for run in runs if not all(map(math.isnan, run))] for label, runs in lines.items()}
    known = {label: runs for label, runs in known.items() if runs}
    if not known:
        return []
    return [picture(name, partial(plots.several, known, title=title, what=title, log=log, across=across))]


def _energy(places: dict[str, list[Path]]) -> list[Section]:
    found = {label: [read_json(place / RESULT) for place in of_label] for label, of_label in places.items()}
    rows = []
    for label, results in found.items():
        known = [result for result in results if "energy_pj" in result]
        if known:
            mean = sum(result["energy_pj"] for result in known) / len(known)
            rows.append([label, show(mean / 1000), show(known[0]["relu_energy_pj"] / 1000)])
    columns = ["method", "energy of an input, nJ (mean over runs)", "with ReLUs, nJ"]
    return [Section("Energy", "45 nm (Horowitz, ISSCC 2014).", table=Table(columns, rows))] if rows else []


def _last(path: Path, column: str) -> list[float]:
    """A figure of each layer after the last epoch: a row has all layers, or, with a column's name, one."""
    rows = read_rows(path)
    if not rows:
        return []
    if column:
        return [row[column] for row in rows if row["epoch"] == rows[-1]["epoch"]]
    return [value for key, value in rows[-1].items() if key != "epoch"]


def _ratios(place: Path) -> list[float]:
    rows = [[value for key, value in row.items() if key != "epoch"] for row in read_rows(place / "gradients.csv")]
    return [row[0] / row[-1] for row in rows if row[-1]]


def _recipes(places: dict[str, list[Path]]) -> list[Section]:
    """What the methods' recipes share, and in what they differ."""
    recipes: dict[str, Recipe] = {
        label: recipe_io.read(found[0] / RECIPE)
        for label, found in places.items()
        if found and (found[0] / RECIPE).is_file()
    }
    if not recipes:
        return []
    entries = {label: dict(flat(recipe.to_dict())) for label, recipe in recipes.items()}
    keys = list(next(iter(entries.values())))
    varied = [key for key in keys if len({of_label[key] for of_label in entries.values()}) > 1]
    shared = [(key, next(iter(entries.values()))[key]) for key in keys if key not in varied]
    different = [[label, *(of_label[key] for key in varied)] for label, of_label in entries.items()]
    environment = next((found[0] / "environment.json" for found in places.values() if found), None)
    return [
        Section("Recipes: what differs", table=Table(["method", *varied], different)),
        Section("Recipes: what is shared (the first seed's)", table=Table((), shared), folded=True),
        Section("Environment of the first run", table=Table((), flat(read_json(environment) if environment else {}))),
    ]
