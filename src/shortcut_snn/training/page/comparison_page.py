"""The page on a comparison."""

from functools import partial
from pathlib import Path

from ... import __version__
from ...analysis import plots
from .. import recipe_io
from ..compare import variant_folder
from ..recipe import Recipe
from ..run import RECIPE
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
    """What each epoch of each run brought."""

    def lines(name: str, column: str) -> dict[str, list[list[float]]]:
        found = {label: [read_rows(place / name) for place in of_label] for label, of_label in places.items()}
        return {
            label: [[row[column] for row in rows] for rows in runs]
            for label, runs in found.items()
            if runs and all(rows and column in rows[0] for rows in runs)
        }

    ratios = {label: [_ratios(place) for place in of_label] for label, of_label in places.items() if of_label}
    energies = {label: [_energies(place) for place in of_label] for label, of_label in places.items()}
    drawn = [
        picture(column, partial(plots.several, found, title=title, what=title))
        for column, title in (
            ("validation_accuracy", "accuracy on validation data"),
            ("train_loss", "loss in training"),
            ("lambda", "lambda"),
            ("firing_rate", "firing rate"),
        )
        if (found := lines("metrics.csv", column))
    ]
    title = "gradient, first layer / last"
    if all(any(run) for runs in ratios.values() for run in runs):
        drawn.append(picture("ratios", partial(plots.several, ratios, title=title, what=title, log=True)))
    sections = [Section("Over epochs", "Thick: the mean over seeds; thin: each run.", drawn)] if drawn else []
    energy = [
        [label, show(sum(spiking for spiking, _ in known) / len(known)), show(known[0][1])]
        for label, found in energies.items()
        if (known := [pair for pair in found if pair])
    ]
    if energy:
        columns = ["method", "energy of an input, nJ (mean over runs)", "with ReLUs, nJ"]
        sections.append(Section("Energy", "45 nm (Horowitz, ISSCC 2014).", table=Table(columns, energy)))
    return sections


def _ratios(place: Path) -> list[float]:
    rows = [[value for key, value in row.items() if key != "epoch"] for row in read_rows(place / "gradients.csv")]
    return [row[0] / row[-1] for row in rows if row[-1]]


def _energies(place: Path) -> tuple[float, float] | None:
    result = read_json(place / "result.json")
    if "energy_pj" not in result:
        return None
    return result["energy_pj"] / 1000, result["relu_energy_pj"] / 1000


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
