"""The runs of a comparison: those that tune, the choice of each variant's best, and those of all seeds."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...files import refuse_others, write_csv
from ...recipes.entries import changed
from ...recipes.recipe import Recipe
from ...training import Metric, RunFolder
from .._changed import changed_since
from .._children import Children, Stopped
from .._launchers import Launcher, Local, train
from .._parser import STOPPED
from .figures import summarise
from .planning import Plan, Variant, folder_of, tried


class RunsFailed(ValueError):
    """Some runs of a comparison failed; ``rows`` is the table of the others."""

    def __init__(self, message: str, rows: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.rows = rows


def compare(
    plan: Plan,
    folder: str | Path,
    jobs: int = 1,
    tell: Callable[[str], None] = print,
    launcher: Launcher | None = None,
    imported: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Run what has not run yet and write the comparison.

    Every run is a process of its own with a folder of its own, so one that fails or is killed takes nothing with
    it, and giving the same command again goes on.

    Args:
        plan: what is compared.
        folder: where the runs, ``runs.csv``, ``comparison.csv``, ``comparison.json``, ``comparison.md`` and
            ``comparison.png`` go.
        jobs: processes at the same time; on one machine each gets its share of the CPU threads.
        tell: takes a line as each run ends.
        launcher: what starts them; by default they are processes of this machine.
        imported: what is imported now; where finished runs had other files of these names, that is said.

    Returns:
        The rows of the table.

    Raises:
        RunsFailed: a run failed, or its folder holds that of another recipe; the others have been done.
        FileExistsError: the folder is not empty and holds no comparison.
        ValueError: less than one job.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    folder, launcher = Path(folder), launcher or Local(jobs)
    begun = [folder / name for name in ("comparison.json", *(variant.folder for variant in plan.variants))]
    # One that was stopped before a run had finished, perhaps of other methods, has but what stands beside its runs.
    if not any(path.exists() for path in (*begun, *folder.glob("*/seed*.yaml"), *folder.glob("*/tune/*.yaml"))):
        refuse_others(folder, f"{folder} is not empty and holds no comparison", {"jobs"})
    runs, tries = len(plan.variants) * len(plan.seeds), sum(len(variant.tries) for variant in plan.variants)
    first = f", after {tries} that tune" if tries else ""
    tell(f"{len(plan.variants)} variants, {len(plan.seeds)} seeds: {runs} runs{first} in {folder}")
    failed: dict[Path, str] = {}
    done: list[RunFolder] = []
    children = Children(tell)

    def one(shown: str, recipe: Recipe, place: RunFolder, when: str) -> dict[str, Any] | None:
        try:
            if place.is_finished:
                place.check_same(recipe.to_dict())
            else:
                train(children, launcher, recipe, place, plan.imports, tell=tell)
            result = place.read_result()
        except Stopped:
            tell(f"stopped {shown}; {STOPPED}")
            return None
        except (ValueError, OSError) as error:
            failed[place.path] = str(error)
            tell(f"FAILED {shown}: {error} (log: {place}.log)")
            return None
        done.append(place)
        metric = Metric.of(result)
        tell(f"{shown}: {when}{metric.name} {metric.format(_value(result, metric, tune=bool(when)))}")
        return result

    def tune(task: tuple[Variant, tuple[str, ...]]) -> dict[str, Any] | None:
        variant, options = task
        place = RunFolder(folder / variant.folder / "tune" / folder_of(" ".join(options)))
        shown = f"{variant.label}, trying {' '.join(options)}"
        return one(shown, tried(variant.recipe, options, plan.tune_epochs), place, "validation ")

    def final(task: tuple[Variant, int]) -> None:
        variant, seed = task
        place = RunFolder(folder / variant.folder / f"seed{seed}")
        one(f"{variant.label}, seed {seed}", changed(variant.recipe, {"training": {"seed": seed}}), place, "")

    tuned: dict[str, dict[str, str]] = {}
    with ThreadPoolExecutor(jobs) as pool, children.block():
        todo = [(variant, options) for variant in plan.variants for options in variant.tries]
        results = list(pool.map(tune, todo))
        # A value at which training fails is not chosen: no run of the table has failed by that.
        unfit, stopped = dict(failed), results.count(None) > len(failed)
        failed.clear()
        variants = []
        for variant in () if stopped else plan.variants:
            found = {
                options: result for (of, options), result in zip(todo, results, strict=True)
                if of == variant and result is not None
            }  # fmt: skip
            if not variant.tries or found:
                variant, tuned[variant.label] = chosen(variant, found)
                variants.append(variant)
            else:
                place, reason = next((p, r) for p, r in unfit.items() if p.parts[-3] == variant.folder)
                failed |= {folder / variant.folder / f"seed{seed}": f"{place}: {reason}" for seed in plan.seeds}
        if todo and tuned:
            _write_tuning(folder, todo, results, tuned)
        for label, values in tuned.items():
            if values:
                tell(f"{label} trains with {', '.join(f'{key} {value}' for key, value in values.items())}")
        list(pool.map(final, [(variant, seed) for seed in plan.seeds for variant in variants]))
    rows = summarise(plan, folder, leave_out=failed, tuned=tuned)
    for line in changed_since(done, imported):
        tell(line)
    if failed:
        place, error = next(iter(failed.items()))
        raise RunsFailed(f"{len(failed)} of {runs} runs failed, first {place}: {error}", rows)
    return rows


def chosen(variant: Variant, found: Mapping[tuple[str, ...], Mapping[str, Any]]) -> tuple[Variant, dict[str, str]]:
    """Return a variant with the best of its tries in its recipe, and what that is, by key, as a person reads it.

    Args:
        variant: what was tuned; without tries it stays what it is.
        found: the results of its tries that did not fail.

    Raises:
        ValueError: a result says nothing of validation data.
    """
    if not variant.tries:
        return variant, {}
    metric = Metric.of(next(iter(found.values())))
    values = {options: _value(result, metric, tune=True) for options, result in found.items()}
    known = {options: value for options, value in values.items() if math.isfinite(value)}
    if not known:
        raise ValueError(f"{variant.label}: no run of --tune has a {metric.title} on validation data")
    best = (max if metric.higher_is_better else min)(known, key=lambda options: known[options])
    told = {}
    for place, option in enumerate(best):
        key, _, text = option.partition("=")
        every = [json.loads(options[place].partition("=")[2]) for options in variant.tries]
        value, told[key] = json.loads(text), text.strip('"')
        if all(isinstance(each, int | float) and not isinstance(each, bool) for each in every) and len(set(every)) > 1:
            ends = {min(every): "the least tried", max(every): "the greatest tried"}
            told[key] += f" ({ends[value]})" if value in ends else ""
    return dataclasses.replace(variant, recipe=tried(variant.recipe, best)), told


def _value(result: Mapping[str, Any], metric: Metric, tune: bool = False) -> float:
    """What a run reached, as a fraction where the metric is one: on validation data for those that tune."""
    if tune:
        return float((result["validation_last"] or {}).get(metric.name, math.nan))
    return metric.value_of(result, "last") / metric.scale


def _write_tuning(
    folder: Path,
    todo: Sequence[tuple[Variant, tuple[str, ...]]],
    results: Sequence[Mapping[str, Any] | None],
    tuned: Mapping[str, Mapping[str, str]],
) -> None:
    rows = []
    for (variant, options), result in zip(todo, results, strict=True):
        values = {key: text for key, _, text in (option.partition("=") for option in options)}
        best = {key: text.partition(" (")[0] for key, text in tuned.get(variant.label, {}).items()}
        is_best = best == {key: text.strip('"') for key, text in values.items()}
        row: dict[str, Any] = {"variant": variant.label, **values}
        if result is not None:
            metric = Metric.of(result)
            row |= {f"validation_{metric.name}": _value(result, metric, tune=True), "epochs": result["epochs"]}
        rows.append(row | {"outcome": "failed" if result is None else "chosen" if is_best else ""})
    write_csv(folder / "tuning.csv", rows)
