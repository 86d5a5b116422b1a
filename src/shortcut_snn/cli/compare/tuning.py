"""Tune the variants of a comparison: train each with all combinations of the listed values, and take the best."""

import errno
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._utils.files import write_csv
from ...recipes import Recipe, changed
from ...recipes.building import load_data
from ...training import RunFolder
from ...training.tables import Metric, format_value
from .._run_pool import Result, RunPool, TrainingRun
from .planning import Plan, Point, Variant, as_entries, as_words, folder_name

Tuned = tuple[Recipe, dict[str, str]]
"""A recipe with the best of its values, and these values as text by key."""


@dataclass(frozen=True, eq=False)
class Trial(TrainingRun):
    """A run that trains a variant with one combination of values."""

    variant: Variant
    point: Point


def tune(plan: Plan, folder: Path, pool: RunPool) -> dict[Variant, Tuned]:
    """Return the tuned recipe of each variant; one is left out if none of its values reaches a validation metric."""
    variants = [variant for variant in plan.variants if variant.tuned]
    trials = [trial for variant in variants for trial in _trials(variant, plan, folder)]
    outcomes = dict(zip(trials, pool.train(trials, _describe), strict=True))
    for trial, outcome in outcomes.items():
        # Such a run would count as a bad combination.
        if any(os.strerror(number) in outcome.error for number in (errno.ENOSPC, errno.EDQUOT)):
            raise ValueError(f"{trial.label}: {outcome.error}; make room and repeat the command")
    tuned = {}
    for variant in variants:
        scores, rows = {}, []
        for trial in (trial for trial in trials if trial.variant is variant):
            outcome = outcomes[trial]
            value = _validation(outcome.result)
            rows.append({**trial.point, "validation": value, "error": outcome.error, "folder": trial.folder.path.name})
            if outcome.result is not None and math.isfinite(value):
                scores[trial] = value if Metric.of(outcome.result).higher_is_better else -value
        write_csv(folder / variant.folder / "tune" / "trials.csv", rows)
        if scores:
            point = max(scores, key=scores.__getitem__).point
            texts = {key: format_value(value) + _remark(variant.tuned[key], value) for key, value in point.items()}
            tuned[variant] = changed(variant.recipe, as_entries(point)), texts
            pool.log(f"{variant.label} trains with {', '.join(f'{key} {text}' for key, text in texts.items())}")
    return tuned


def _trials(variant: Variant, plan: Plan, folder: Path) -> Iterator[Trial]:
    """Yield the runs that tune a variant."""
    if load_data(variant.recipe).loaders(variant.recipe.training.seed).validation is None:
        remedy = ": add --data.validation 0.1" if hasattr(variant.recipe.data, "validation") else ""
        raise ValueError(f"--tune chooses values on validation data, and {variant.label} has none{remedy}")
    for point, recipe in variant.candidates(plan.tune_epochs):
        words = " ".join(as_words(point))
        path = folder / variant.folder / "tune" / folder_name(words)
        yield Trial(f"{variant.label}, tuning {words}", recipe, RunFolder(path), variant, point)


def _validation(result: Result | None) -> float:
    """Return the metric on validation data after the last epoch; NaN if there is none."""
    value = ((result or {}).get("validation_last") or {}).get((result or {}).get("metric"))
    return math.nan if value is None else float(value)


def _describe(result: Result) -> str:
    metric = Metric.of(result)
    return f"validation {metric.title} {metric.format(_validation(result))}"


def _remark(values: Any, value: Any) -> str:
    """Return a remark if a number is the least or the greatest of those tried."""
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    is_end = len(numbers) == len(values) > 1 and value in (min(numbers), max(numbers))
    return " (at the end of those tried)" if is_end else ""
