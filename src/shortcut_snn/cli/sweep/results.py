"""The results of a search: ``trials.csv``, ``best.yaml``, and the page ``sweep.html`` with Optuna's figures."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as optuna_plots

from ...files import write_csv, write_text
from ...recipes.entries import from_dict, write_recipe
from ..report import Page, Picture, Section, Table, entry_texts, picture, render
from .search import Search, evaluator
from .space import entries_at, is_near_end, point_text, range_text, value_text

STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
          TrialState.RUNNING: "interrupted"}  # fmt: skip


def write(search: Search) -> None:
    """Write ``trials.csv``, ``sweep.html`` and the best trial's recipe, ``best.yaml``."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            f"validation_{search.metric.name}": last_value(trial),
            "epochs": len(trial.intermediate_values),
            **search.point(trial),
        }
        for trial in search.trials()
    ]
    write_csv(search.folder / "trials.csv", rows)
    if search.best is not None:
        recipe = from_dict(entries_at(search.entries, search.point(search.best)))
        write_recipe(recipe, search.folder / "best.yaml")
    write_text(search.folder / "sweep.html", render(page(search)))


def verdict(search: Search, importances: Mapping[str, float] | None = None) -> list[str]:
    """Return the result in sentences: the best trial, the most important entry, and ranges that may be too narrow."""
    best = search.best
    if best is None:
        return ["No trial has finished."]
    point, metric = search.point(best), search.metric
    sentences = [
        f"Trial {best.number} is best: validation {metric.title} {metric.format(best.value)} ({point_text(point)})."
    ]
    importances = search.importances() if importances is None else importances
    if importances:
        key, share = max(importances.items(), key=lambda pair: pair[1])
        sentences.append(f"{key} mattered most: it explains {100 * share:.0f} % of the variance between trials.")
    edges = [key for key, distribution in search.space.items() if is_near_end(distribution, point[key])]
    if edges:
        sentences.append(f"The best value is at an end of the range of {', '.join(edges)}: try a wider range.")
    return sentences


def page(search: Search) -> Page:
    """Return the page of a search."""
    trials, best, metric = search.trials(), search.best, search.metric
    importances = search.importances()
    answer, *more = verdict(search, importances)
    counts = [(name, str(sum(trial.state == state for trial in trials))) for state, name in STATES.items()]
    text = (
        "Values are the metric on validation data after the last epoch; of a pruned trial after its last epoch. "
        "Importance is the share of the variance over trials that an entry explains (fANOVA); with few trials it is "
        "unreliable."
    )
    ranges = [(key, range_text(distribution)) for key, distribution in search.space.items()]
    sections = [
        Section("Importance of the entries", text, _pictures(search, importances)),
        Section("Trials", tables=[_trial_table(search)]),
        Section("Search space", tables=[Table((), ranges)]),
    ]
    if best is not None:
        recipe = from_dict(entries_at(search.entries, search.point(best))).to_dict()
        sections.append(Section("Recipe of the best trial", tables=[Table((), entry_texts(recipe), "all entries")]))
    return Page(
        f"Search {search.folder.name}",
        f"searched: {', '.join(search.space)}",
        answer,
        more,
        [("best", "-" if best is None else metric.format(best.value)), *counts],
        sections,
    )


def _pictures(search: Search, importances: Mapping[str, float]) -> list[Picture]:
    """Return Optuna's figures of the study."""
    study, name = search.study, f"validation {search.metric.title}"
    figures: dict[str, Callable[[], Any]] = {
        "Trials": lambda: optuna_plots.plot_optimization_history(study, target_name=name),
        "Epochs of each trial": lambda: optuna_plots.plot_intermediate_values(study),
        "Each entry": lambda: optuna_plots.plot_slice(study, target_name=name),
    }
    if importances:
        figures["Importance"] = lambda: optuna_plots.plot_param_importances(study, evaluator=evaluator())
    return [picture(title, partial(_draw, draw)) for title, draw in figures.items()]


def _draw(draw: Callable[[], Any], path: Path) -> None:
    """Save the figure that one of Optuna's functions draws."""
    from matplotlib import pyplot as plt

    # Optuna sets a style for the whole process.
    with mpl.rc_context({"figure.constrained_layout.use": True}):
        figure = np.ravel(draw())[0].figure
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _trial_table(search: Search) -> Table:
    """Return the trials, the best first."""
    metric = search.metric
    sign = -1 if metric.higher_is_better else 1
    values = {trial.number: last_value(trial) for trial in search.trials()}
    order = sorted(
        search.trials(), key=lambda trial: math.inf if math.isnan(values[trial.number]) else sign * values[trial.number]
    )
    rows = []
    for trial in order:
        point = search.point(trial)
        row = [str(trial.number), STATES.get(trial.state, ""), metric.format(values[trial.number])]
        row += [str(len(trial.intermediate_values)), *(value_text(point.get(key, "-")) for key in search.space)]
        rows.append(row)
    return Table(["trial", "state", f"validation {metric.title}", "epochs", *search.space], rows)


def last_value(trial: FrozenTrial) -> float:
    """Return a trial's value, of a pruned trial after its last epoch; NaN if there is none."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return trial.value
    values = trial.intermediate_values
    return values[max(values)] if values and trial.state == TrialState.PRUNED else math.nan
