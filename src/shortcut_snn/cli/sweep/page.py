"""What came of a search: sentences, and a page."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from ...files import write_csv, write_text
from ...recipes.entries import from_dict, read_recipe, write_recipe
from ...training import Metric
from ..report.html import Page, Section, Table, render
from ..report.reading import texts
from .search import Search
from .space import at, point_text, value_text


def write(search: Search) -> Sequence[str]:
    """Write ``trials.csv``, ``sweep.html`` and, of the best trial, ``best.yaml``; return what came out."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            f"validation_{search.metric.name}": value_of(trial),
            "epochs": len(trial.intermediate_values),
            **search.point(trial),
        }
        for trial in search.trials()
    ]
    write_csv(search.folder / "trials.csv", rows)
    if search.best is not None:
        place, point = search.place(search.best.number), search.point(search.best)
        recipe = read_recipe(place.recipe) if place.is_run else from_dict(at(search.entries, point))
        write_recipe(recipe, search.folder / "best.yaml")
    importances = search.importances()
    write_text(search.folder / "sweep.html", render(page(search, importances)))
    return verdict(search, importances)


def page(search: Search, importances: Mapping[str, float]) -> Page:
    """Return the page on the search: what was best, and what mattered."""
    from optuna.visualization import matplotlib as visual

    trials, best = search.trials(), search.best
    scale, what = search.metric.scale, f"validation {search.metric.title}"
    values = [scale * value_of(trial) for trial in trials]
    drawn = [
        _picture("trials", partial(visual.plot_optimization_history, search.study, target_name=what)),
        _picture("epochs", partial(visual.plot_intermediate_values, search.study)),
    ]
    if importances:
        evaluator = search.evaluator()
        drawn.append(_picture("importances", partial(visual.plot_param_importances, search.study, evaluator)))
    slices = _picture("entries", partial(visual.plot_slice, search.study, target_name=what))
    order = sorted(zip(trials, values, strict=True), key=lambda pair: _rank(pair[1], search.metric), reverse=True)
    cells = []
    for trial, value in order:
        point = search.point(trial)
        row = [str(trial.number), trial.state.name.lower(), search.metric.format(value / scale)]
        row += [str(len(trial.intermediate_values))]
        cells.append(row + [value_text(point.get(each.key, "-")) for each in search.space])
    columns = ["trial", "state", f"validation {search.metric.title}", "epochs", *(each.key for each in search.space)]
    states = [trial.state.name for trial in trials]
    text = (
        "Values are of validation data, after the last epoch; a trial that was stopped early has that of its "
        "last. The share of an entry is that of the variance over trials that it explains (fANOVA); of few trials "
        "it says little."
    )
    shown = [[each.key, str(each)] for each in search.space]
    answer, *more = verdict(search, importances)
    recipe = [(key, "searched" if search.varies(key) else text) for key, text in texts(search.about["recipe"])]
    headline = str(from_dict(search.about["recipe"]))
    # It is that of the first choices.
    if any(map(search.varies, ("network.kind", "data.kind", "method"))):
        headline = "searched: " + ", ".join(each.key for each in search.space)
    return Page(
        f"Search {search.folder.name}",
        headline,
        answer,
        more,
        [("best", "-" if best is None else search.metric.format(best.value))]
        + [(name.lower().replace("complete", "finished").replace("fail", "failed"), str(states.count(name)))
           for name in ("COMPLETE", "PRUNED", "FAIL")],
        [
            Section("What mattered", text, drawn),
            Section("Each entry", pictures=[slices]),
            Section("Trials", tables=[Table(columns, cells)]),
            Section("What was searched", tables=[Table((), shown)]),
            Section("The recipe", tables=[Table((), recipe, "all entries")]),
        ],
    )  # fmt: skip


def verdict(search: Search, importances: Mapping[str, float]) -> list[str]:
    """Return in sentences what came out."""
    if search.best is None:
        return ["No trial has finished."]
    point = search.point(search.best)
    value = search.metric.format(search.best.value)
    found = [f"Trial {search.best.number} is best: validation {search.metric.title} {value} ({point_text(point)})."]
    if importances:
        key, share = max(importances.items(), key=lambda pair: pair[1])
        found.append(f"{key} mattered most: {100 * share:.0f} % of what differs between trials.")
    edges = [each.key for each in search.space if each.is_end(point[each.key])]
    if edges:
        found.append(f"The best is at an end of the range of {', '.join(edges)}: a wider one may hold a better.")
    return found


def value_of(trial: Any) -> float:
    """A trial's value; of one that was stopped early its last, NaN for none."""
    if trial.state.name == "COMPLETE":
        return float(trial.value)
    values = trial.intermediate_values
    return float(values[max(values)]) if values and trial.state.name == "PRUNED" else math.nan


def _rank(value: float, metric: Metric) -> float:
    return -math.inf if math.isnan(value) else value if metric.higher_is_better else -value


def _picture(name: str, draw: Callable[[], Any]) -> Markup:
    """What a function of Optuna draws, as SVG to stand in a page; the name tells its parts from other pictures'."""
    from matplotlib import pyplot as plt

    written = io.StringIO()
    # Optuna sets a style for the whole process.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "figure.constrained_layout.use": True}):
        figure = np.ravel(draw())[0].figure
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = written.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    # The page, not the file, says how large it is.
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', rf'<svg role="img" aria-label="{name}"\1', svg, count=1)
    return Markup(re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1))
