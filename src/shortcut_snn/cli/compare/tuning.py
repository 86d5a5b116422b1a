"""Tune the variants of a comparison: a search over all combinations of the values that the user lists."""

import itertools
from pathlib import Path

import optuna

from ...recipes import Recipe, changed
from ...training import format_value
from .._run_pool import RunPool
from ..sweep.results import write
from ..sweep.search import Search
from ..sweep.space import is_near_end, make_space
from .planning import Plan, Variant

Tuned = tuple[Recipe, dict[str, str]]
"""A recipe with the best of its values, and these values as text by key."""


def tune(plan: Plan, folder: Path, pool: RunPool) -> dict[Variant, Tuned]:
    """Return the tuned recipe of each variant; one is left out if none of its values reaches a validation metric."""
    searches = {variant: _open_search(variant, plan, folder, pool) for variant in plan.variants if variant.tuned}
    tuned = {}
    for variant, search in searches.items():
        points = [dict(zip(variant.tuned, each, strict=True)) for each in itertools.product(*variant.tuned.values())]
        with search.storage_errors():
            search.run(len(points), pool, points)
            write(search)
        if search.best is not None:
            tuned[variant] = _best(variant, search)
            values = ", ".join(f"{key} {text}" for key, text in tuned[variant][1].items())
            pool.log(f"{variant.label} trains with {values}")
    return tuned


def _open_search(variant: Variant, plan: Plan, folder: Path, pool: RunPool) -> Search:
    epochs = variant.recipe.training.epochs if plan.tune_epochs is None else plan.tune_epochs
    entries = changed(variant.recipe, {"training": {"epochs": epochs}}).to_dict()
    return Search(
        folder / variant.folder / "tune",
        entries,
        make_space({key: {"choices": values} for key, values in variant.tuned.items()}, entries),
        lambda number: optuna.samplers.RandomSampler(seed=number),
        optuna.pruners.NopPruner(),
        lambda line: pool.log(f"{variant.label}, {line}"),
    )


def _best(variant: Variant, search: Search) -> Tuned:
    """Return a variant's recipe with its best values, but its own number of epochs."""
    assert search.best is not None
    values = {}
    for key, value in search.point(search.best).items():
        remark = " (at the end of those tried)" if is_near_end(search.space[key], search.best.params[key]) else ""
        values[key] = format_value(value) + remark
    epochs = variant.recipe.training.epochs
    return changed(search.recipe(search.best), {"training": {"epochs": epochs}}), values
