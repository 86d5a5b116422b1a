"""The results of a search: ``trials.csv``, ``best.yaml``, and the page ``sweep.html`` with Optuna's figures."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as optuna_plots

from ...files import write_csv, write_text
from ...recipes import write_recipe
from ..report import Page, Picture, Section, Table, all_columns, entries_section, picture, render
from .search import Search, evaluator
from .space import is_near_end, point_text, range_text

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def write(search: Search) -> list[str]:
    """Write the files of a search and return its result in sentences."""
    name = f"validation_{search.metric.name}"
    rows: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            name: last_value(trial),
            "epochs": len(trial.intermediate_values),
            **search.point(trial),
        }
        for trial in search.trials()
    ]
    write_csv(search.folder / "trials.csv", rows)
    best = search.best
    if best is not None:
        write_recipe(search.recipe(best), search.folder / "best.yaml")
    sentences = _verdict(search)
    # The best first; a trial without a value last.
    sign = -1 if search.metric.higher_is_better else 1
    rows.sort(key=lambda row: math.inf if math.isnan(row[name]) else sign * row[name])
    ranges = [(key, range_text(distribution)) for key, distribution in search.space.items()]
    page = Page(
        f"Search {search.folder.name}",
        f"searched: {', '.join(search.space)}",
        sentences[0],
        sentences[1:],
        [(state.name.lower(), str(sum(row["state"] == state.name.lower() for row in rows))) for state in STATES],
        [
            Section(
                "Trials",
                "Values are the metric on validation data after the last epoch of a trial.",
                _pictures(search),
                [all_columns(rows, "all trials")],
            ),
            Section("Search space", tables=[Table((), ranges)]),
            *entries_section("Recipe of the best trial", search.recipe(best).to_dict() if best else {}),
        ],
    )
    write_text(search.folder / "sweep.html", render(page))
    return sentences


def last_value(trial: FrozenTrial) -> float:
    """Return a trial's metric after its last epoch, also if it was pruned; NaN if there is none."""
    values = trial.intermediate_values
    return values[max(values)] if values and trial.state in STATES[:2] else math.nan


def _verdict(search: Search) -> list[str]:
    """Return the best trial, the most important entry, and ranges that may be too narrow, in sentences."""
    best = search.best
    if best is None:
        return ["No trial has finished."]
    point, metric = search.point(best), search.metric
    reached = f"validation {metric.title} {metric.format(best.value)}"
    sentences = [f"Trial {best.number} is best: {reached} ({point_text(point)})."]
    if importances := search.importances():
        key, share = max(importances.items(), key=lambda pair: pair[1])
        sentences.append(f"{key} mattered most: it explains {100 * share:.0f} % of the variance between trials.")
    edges = [key for key, distribution in search.space.items() if is_near_end(distribution, point[key])]
    if edges:
        sentences.append(f"The best value is at an end of the range of {', '.join(edges)}: try a wider range.")
    return sentences


def _pictures(search: Search) -> list[Picture]:
    """Return Optuna's figures of the study."""
    study, value = search.study, f"validation {search.metric.title}"
    pictures = [
        picture(
            "Trials in order",
            partial(_draw, lambda: optuna_plots.plot_optimization_history(study, target_name=value), xlabel="trial"),
        ),
        picture(
            "Epochs of each trial",
            partial(_draw, lambda: optuna_plots.plot_intermediate_values(study), xlabel="epoch", ylabel=value),
        ),
        picture("Each entry", partial(_draw, lambda: optuna_plots.plot_slice(study, target_name=value))),
    ]
    if search.importances():
        explained = partial(optuna_plots.plot_param_importances, study, evaluator=evaluator())
        share = "share of the variance between trials that an entry explains (fANOVA)"
        pictures.append(picture("Importance", partial(_draw, explained, xlabel=share, ylabel="")))
    return pictures


def _draw(draw: Callable[[], Any], path: Path, **labels: str) -> None:
    """Save the figure that one of Optuna's functions draws, with other labels for its axes."""
    from matplotlib import pyplot as plt

    # Optuna sets a style for the whole process.
    with mpl.rc_context({"figure.constrained_layout.use": True}):
        panels = np.ravel(draw())
        for axes in panels:
            axes.set(title="", **labels)
            # Labels between powers of ten overlap.
            axes.xaxis.set_minor_formatter(NullFormatter())
            if labels.get("xlabel") in ("trial", "epoch"):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure = panels[0].figure
        figure.suptitle("")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
