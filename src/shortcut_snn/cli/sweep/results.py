"""The results of a search: ``trials.csv``, ``best.yaml``, and the page ``sweep.html``."""

import math
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ... import plots
from ..._utils.files import write_csv, write_text
from ...recipes import write_recipe
from .._page import Page, Section, all_columns, entries_section, picture, render
from .search import ENDED, Search
from .space import is_near_end, point_text


def write(search: Search) -> list[str]:
    """Write the files of a search and return its result in sentences."""
    name, best = f"validation_{search.metric.name}", search.best
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
    if best is not None:
        write_recipe(search.recipe(best), search.folder / "best.yaml")
    sentences = _verdict(search)
    states = [row["state"] for row in rows]
    # The best first; a trial without a value last.
    sign = -1 if search.metric.higher_is_better else 1
    ranked = sorted(rows, key=lambda row: math.inf if math.isnan(row[name]) else sign * row[name])
    page = Page(
        f"Search in {search.folder}",
        f"searched: {', '.join(search.space)}",
        "" if best is None else search.metric.format(best.value),
        sentences,
        [(state, str(states.count(state))) for state in dict.fromkeys(states)],
        [
            Section(
                "Trials",
                "The metric on validation data after the last epoch of each trial; grey: stopped early.",
                [picture("", lambda path: _draw(search, path))],
                [all_columns(ranked, "all trials")],
            ),
            *entries_section("Recipe of the best trial", search.recipe(best).to_dict() if best else {}),
        ],
    )
    write_text(search.folder / "sweep.html", render(page))
    return sentences


def last_value(trial: FrozenTrial) -> float:
    """Return a trial's metric after its last epoch, also if it was pruned; NaN if there is none."""
    values = trial.intermediate_values
    return values[max(values)] if values and trial.state in ENDED else math.nan


def _verdict(search: Search) -> list[str]:
    """Return the best trial, and ranges that may be too narrow, in sentences."""
    best = search.best
    if best is None:
        return ["No trial has finished."]
    point, metric = search.point(best), search.metric
    reached = f"validation {metric.title} {metric.format(best.value)}"
    sentences = [f"Trial {best.number} is best: {reached} ({point_text(point)})."]
    edges = [key for key, distribution in search.space.items() if is_near_end(distribution, best.params[key])]
    if edges:
        sentences.append(f"The best value is at an end of the range of {', '.join(edges)}: try a wider range.")
    return sentences


def _draw(search: Search, path: Path) -> None:
    """Draw the metric of all trials in order, and against each entry."""
    trials = search.trials(*ENDED)
    values: dict[str, list[Any]] = {"trial": [trial.number for trial in trials]}
    values |= {key: [trial.params[key] for trial in trials] for key in search.space}
    logarithmic = {key for key, distribution in search.space.items() if getattr(distribution, "log", False)}
    scores = [search.metric.scale * last_value(trial) for trial in trials]
    finished = [trial.state == TrialState.COMPLETE for trial in trials]
    plots.scores(values, scores, finished, path, search.metric.label("validation {}"), logarithmic)
