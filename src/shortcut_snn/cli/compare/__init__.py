"""``shortcut-snn compare``: tune each variant, train all seeds, and tabulate the results."""

import argparse
import errno
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..._utils.files import refuse_others, write_csv
from ..._utils.markdown import markdown_table
from ...recipes import Recipe, changed, parse_options
from ...recipes.building import load_data
from ...recipes.entries import layer, merged
from ...training import RunFolder
from ...training.tables import Metric, format_value
from .._run_pool import Result, RunPool, TrainingRun
from .._terminal import print_line, usage_errors
from .planning import Plan, Point, Variant, as_entries, as_words, folder_name, plan
from .summary import DESCRIPTION, Comparison

__all__ = ["DESCRIPTION", "Comparison", "Plan", "RunsFailed", "Variant", "compare", "plan"]


def run(options: argparse.Namespace) -> int:
    """Compare, and print the table of all finished runs."""
    folder = Path(options.out)
    with usage_errors():
        # A method in the shared recipe would make all compared methods the same.
        shared = merged(*(layer(name, with_method=False) for name in options.layers), parse_options(options.entries))
        made = plan(
            shared, options.methods, options.seeds, options.grid, options.imports, options.tune, options.tune_epochs
        )
    for name in options.layers:
        if Path(name).is_file() and "method" in layer(name):
            print_line(f"{name}: its method is left out, since --methods names those to compare")
    try:
        _print_table(compare(made, folder, options.jobs, print_line, options.imported), folder)
    except RunsFailed as error:
        _print_table(error.comparison, folder)
        raise
    return 0


def _print_table(comparison: Comparison, folder: Path) -> None:
    if not comparison.finished:
        return
    baseline = comparison.baseline
    print_line("\n" + markdown_table(*comparison.table(brief=True)))
    print_line(
        f"\nmeans over seeds after the last epoch with 95 % intervals; differences from {baseline} with the same seed"
    )
    if baseline not in comparison.finished:
        print_line(f"\nthe baseline {baseline} has no finished run, so the table has no differences")
    print_line(f"\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")


class RunsFailed(ValueError):
    """Some runs of a comparison failed; ``comparison`` has the others."""

    def __init__(self, message: str, comparison: Comparison) -> None:
        super().__init__(message)
        self.comparison = comparison


def compare(
    plan: Plan,
    folder: str | Path,
    jobs: int = 1,
    log: Callable[[str], None] = print,
    imported: Sequence[dict[str, Any]] = (),
) -> Comparison:
    """Train the missing runs of a plan, and write the comparison.

    Every run is a process with a folder of its own, so a run that fails or is killed affects no other. The same call
    resumes a comparison that was interrupted.

    Args:
        plan: what to compare.
        folder: takes the runs, ``runs.csv``, ``comparison.csv``, ``comparison.json``, ``comparison.md`` and
            ``comparison.png``.
        jobs: runs at the same time; they share the CPU threads of the machine.
        log: receives a line as each run ends.
        imported: the files and modules imported now, to report those that changed since a finished run.

    Returns:
        The results of all runs.

    Raises:
        RunsFailed: a run failed, or its folder holds a run of another recipe; all other runs were trained.
        FileExistsError: the folder is not empty and holds no comparison.
        ValueError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    folder = Path(folder)
    parts = [folder / name for name in (DESCRIPTION, *(variant.folder for variant in plan.variants))]
    # A comparison of other methods, stopped before its first run ended, has only the recipes next to its runs.
    if not any(path.exists() for path in (*parts, *folder.glob("*/seed*.yaml"), *folder.glob("*/tune/*"))):
        refuse_others(folder, f"{folder} is not empty and holds no comparison")
    variants, seeds = len(plan.variants), len(plan.seeds)
    log(f"{variants} variants, {seeds} seeds: {variants * seeds} runs in {folder}")
    pool = RunPool(jobs, plan.imports, log)
    tuned = tune(plan, folder, pool)
    best = tuned | {variant: (variant.recipe, {}) for variant in plan.variants if not variant.tuned}
    runs = {
        (variant, seed): TrainingRun(
            f"{variant.label}, seed {seed}",
            changed(best[variant][0], {"training": {"seed": seed}}),
            RunFolder(folder / variant.folder / f"seed{seed}"),
        )
        for seed in plan.seeds
        for variant in plan.variants
        if variant in best
    }
    pool.train(list(runs.values()), _describe)
    results: dict[str, dict[int, Result]] = {variant.label: {} for variant in plan.variants}
    for (variant, seed), run in runs.items():
        if run.result is not None:
            results[variant.label][seed] = run.result
    comparison = Comparison(
        {variant.label: variant.folder for variant in plan.variants},
        results,
        {variant.label: values for variant, (_, values) in tuned.items()},
    )
    comparison.write(folder)
    for line in (*_changed_imports((run.folder for run in runs.values()), imported), *_changed_data(runs.values())):
        log(line)
    if errors := [f"{run.folder}: {run.error}" for run in runs.values() if run.error]:
        raise RunsFailed(f"{len(errors)} of {len(runs)} runs failed, first {errors[0]}", comparison)
    if untuned := [variant.label for variant in plan.variants if variant not in best]:
        raise RunsFailed(f"no value of --tune has a validation metric for {', '.join(untuned)}", comparison)
    return comparison


def _describe(result: Result) -> str:
    metric = Metric.of(result)
    return f"{metric.name} {metric.format(metric.value_of(result, 'last') / metric.scale)}"


def _changed_imports(folders: Iterable[RunFolder], imported: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each imported file that changed since runs finished with it."""
    runs: dict[str, list[RunFolder]] = {}
    for folder in folders:
        for name in folder.changed_imports(imported) if folder.is_finished else ():
            runs.setdefault(name, []).append(folder)
    for name, older in runs.items():
        yield (
            f"{name} has changed since {len(older)} finished runs were trained with it (first {older[0]}): remove "
            "their folders to train with it"
        )


def _changed_data(runs: Iterable[TrainingRun]) -> Iterator[str]:
    """Yield a line for each data set whose contents changed between finished runs."""
    sets: dict[str, dict[str, RunFolder]] = {}
    for run in runs:
        fingerprint = run.folder.fingerprint() if run.folder.is_finished else ""
        if fingerprint:
            data = f"{run.recipe.to_dict()['data']} {run.recipe.time_steps}"
            sets.setdefault(data, {}).setdefault(fingerprint, run.folder)
    for first, *others in (folders.values() for folders in sets.values()):
        if others:
            yield (
                f"the data have changed between runs, as in {first} and {others[0]}: remove the folders of those that "
                "were trained with the wrong data"
            )


# Tuning: each variant trains with all combinations of the listed values, and takes the best.


def tune(plan: Plan, folder: Path, pool: RunPool) -> dict[Variant, tuple[Recipe, dict[str, str]]]:
    """Return the recipe with the best values, and these as text, of each variant that reached a validation metric."""
    trials = {variant: list(_trials(variant, plan, folder)) for variant in plan.variants if variant.tuned}
    runs = [run for pairs in trials.values() for _, run in pairs]
    pool.train(runs, _describe_validation)
    for run in runs:
        # Such a run would count as a bad combination.
        if any(os.strerror(number) in run.error for number in (errno.ENOSPC, errno.EDQUOT)):
            raise ValueError(f"{run.label}: {run.error}; make room and repeat the command")
        if "has another recipe" in run.error:
            raise ValueError(f"{run.label}: {run.error}")
    tuned = {}
    for variant, pairs in trials.items():
        scored, rows = [], []
        for point, run in pairs:
            value = _validation(run.result or {})
            rows.append({**point, "validation": value, "error": run.error, "folder": run.folder.path.name})
            if run.result is not None and math.isfinite(value):
                scored.append((value if Metric.of(run.result).higher_is_better else -value, point))
        write_csv(folder / variant.folder / "tune" / "trials.csv", rows)
        if scored:
            _, point = max(scored, key=lambda pair: pair[0])
            texts = {key: format_value(value) + _remark(variant.tuned[key], value) for key, value in point.items()}
            tuned[variant] = changed(variant.recipe, as_entries(point)), texts
            pool.log(f"{variant.label} trains with {', '.join(f'{key} {text}' for key, text in texts.items())}")
    return tuned


def _trials(variant: Variant, plan: Plan, folder: Path) -> Iterator[tuple[Point, TrainingRun]]:
    """Yield every combination of values that tunes a variant, and the run that trains it."""
    if load_data(variant.recipe).loaders(variant.recipe.training.seed).validation is None:
        remedy = ": add --data.validation 0.1" if hasattr(variant.recipe.data, "validation") else ""
        raise ValueError(f"--tune chooses values by validation data, which {variant.label} lacks{remedy}")
    for point, recipe in variant.candidates(plan.tune_epochs):
        words = " ".join(as_words(point))
        path = folder / variant.folder / "tune" / folder_name(words)
        yield point, TrainingRun(f"{variant.label}, tuning {words}", recipe, RunFolder(path))


def _validation(result: Result) -> float:
    """Return the metric on validation data after the last epoch; NaN if there is none."""
    value = (result.get("validation_last") or {}).get(result.get("metric"))
    return math.nan if value is None else float(value)


def _describe_validation(result: Result) -> str:
    metric = Metric.of(result)
    return f"validation {metric.title} {metric.format(_validation(result))}"


def _remark(values: Any, value: Any) -> str:
    """Return a remark if a number is the least or the greatest of those tried."""
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    is_end = len(numbers) == len(values) > 1 and value in (min(numbers), max(numbers))
    return " (at the end of those tried)" if is_end else ""
