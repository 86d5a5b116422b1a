"""Run a comparison: tune each variant, train all seeds, and write the tables."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...files import refuse_others, write_csv
from ...recipes import Recipe, changed
from ...training import Metric, RunFolder
from .._launchers import Launcher, Local
from .._scheduler import Outcome, Scheduler, TrainingRun
from .planning import Plan, Variant, folder_name, with_candidate
from .summary import Results, summarise

Candidate = tuple[str, ...]


class RunsFailed(ValueError):
    """Some runs of a comparison failed; ``rows`` is the table of the others."""

    def __init__(self, message: str, rows: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass
class Tuning:
    """The outcomes of the runs that tune a variant.

    Args:
        variant: the variant.
        outcomes: how each candidate's run ended.
        best: the candidate with the best validation metric; None if all failed.
        recipe: the variant's recipe with the best candidate.
    """

    variant: Variant
    outcomes: dict[Candidate, Outcome]
    best: Candidate | None
    recipe: Recipe

    @property
    def succeeded(self) -> bool:
        """True if a candidate was chosen, or if nothing was to be tuned."""
        return self.best is not None or not self.variant.candidates

    @property
    def values(self) -> dict[str, str]:
        """The chosen values by key, each with a remark if it lies at an end of those tried."""
        values = {}
        for index, option in enumerate(self.best or ()):
            key, _, text = option.partition("=")
            tried = [json.loads(candidate[index].partition("=")[2]) for candidate in self.variant.candidates]
            values[key] = text.strip('"') + _remark(json.loads(text), tried)
        return values


def compare(
    plan: Plan,
    folder: str | Path,
    jobs: int = 1,
    log: Callable[[str], None] = print,
    launcher: Launcher | None = None,
    imported: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Train what a plan names and has not been trained, and write the comparison.

    Every run is a process with a folder of its own, so a run that fails or is killed affects no other. The same call
    resumes a comparison that was interrupted.

    Args:
        plan: what to compare.
        folder: takes the runs, ``runs.csv``, ``comparison.csv``, ``comparison.json``, ``comparison.md`` and
            ``comparison.png``.
        jobs: runs at the same time; on one machine they share its CPU threads.
        log: receives a line as each run ends.
        launcher: starts the runs; by default they are processes of this machine.
        imported: the files and modules imported now, to report those that changed since a finished run.

    Returns:
        The rows of ``comparison.csv``.

    Raises:
        RunsFailed: a run failed, or its folder holds a run of another recipe; all other runs were trained.
        FileExistsError: the folder is not empty and holds no comparison.
        ValueError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    folder = Path(folder)
    _check_folder(folder, plan)
    log(_announcement(plan, folder))
    scheduler = Scheduler(launcher or Local(jobs), jobs, plan.imports, log)
    tunings = _tune(plan, folder, scheduler)
    outcomes = _train_seeds(plan.seeds, folder, tunings, scheduler)
    results: Results = {variant: {} for variant in plan.variants}
    for (variant, seed), outcome in outcomes.items():
        if outcome.result is not None:
            results[variant][seed] = outcome.result
    rows = summarise(folder, results, {tuning.variant.label: tuning.values for tuning in tunings})
    folders = [variant.run_folder(folder, seed) for variant, seed in outcomes]
    for line in changed_imports(folders, imported, "remove their folders to train with it"):
        log(line)
    errors = {path: outcome.error for path, outcome in zip(folders, outcomes.values(), strict=True) if outcome.error}
    if errors:
        path, error = next(iter(errors.items()))
        raise RunsFailed(f"{len(errors)} of {len(outcomes)} runs failed, first {path}: {error}", rows)
    return rows


def _check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder with files of something else, which the comparison might overwrite."""
    parts = [folder / name for name in ("comparison.json", *(variant.folder for variant in plan.variants))]
    # A comparison of other methods, stopped before its first run ended, has only the recipes next to its runs.
    if not any(path.exists() for path in (*parts, *folder.glob("*/seed*.yaml"), *folder.glob("*/tune/*.yaml"))):
        refuse_others(folder, f"{folder} is not empty and holds no comparison", {"jobs"})


def _announcement(plan: Plan, folder: Path) -> str:
    runs = len(plan.variants) * len(plan.seeds)
    tuning = sum(len(variant.candidates) for variant in plan.variants)
    first = f", after {tuning} that tune" if tuning else ""
    return f"{len(plan.variants)} variants, {len(plan.seeds)} seeds: {runs} runs{first} in {folder}"


# Tuning.


def _tune(plan: Plan, folder: Path, scheduler: Scheduler) -> list[Tuning]:
    """Train the candidates of every variant and choose the best of each; write ``tuning.csv``."""
    runs = {
        (variant, candidate): _candidate_run(variant, candidate, folder, plan.tune_epochs)
        for variant in plan.variants
        for candidate in variant.candidates
    }
    outcomes = scheduler.train(iter(runs.values()), partial(_log_outcome, scheduler.log, tune=True))
    tunings = [
        _choose(variant, {candidate: outcomes[runs[variant, candidate]] for candidate in variant.candidates})
        for variant in plan.variants
    ]
    for tuning in tunings:
        if tuning.values:
            chosen = ", ".join(f"{key} {value}" for key, value in tuning.values.items())
            scheduler.log(f"{tuning.variant.label} trains with {chosen}")
    if any(tuning.best for tuning in tunings):
        write_csv(folder / "tuning.csv", [row for tuning in tunings for row in _tuning_rows(tuning)])
    return tunings


def _candidate_run(variant: Variant, candidate: Candidate, folder: Path, epochs: int | None) -> TrainingRun:
    text = " ".join(candidate)
    return TrainingRun(
        f"{variant.label}, trying {text}",
        with_candidate(variant.recipe, candidate, epochs),
        RunFolder(folder / variant.folder / "tune" / folder_name(text)),
    )


def _choose(variant: Variant, outcomes: dict[Candidate, Outcome]) -> Tuning:
    """Return a variant's tuning with the candidate whose validation metric is best after the last epoch."""
    results = {candidate: outcome.result for candidate, outcome in outcomes.items() if outcome.result is not None}
    values = {candidate: _validation_value(result) for candidate, result in results.items()}
    finite = {candidate: value for candidate, value in values.items() if math.isfinite(value)}
    if not finite:
        return Tuning(variant, outcomes, None, variant.recipe)
    metric = Metric.of(next(iter(results.values())))
    best = (max if metric.higher_is_better else min)(finite, key=lambda candidate: finite[candidate])
    return Tuning(variant, outcomes, best, with_candidate(variant.recipe, best))


def _remark(value: Any, tried: Sequence[Any]) -> str:
    """Say that a chosen number is the least or the greatest of those tried: a better one may lie beyond it."""
    if len(set(map(str, tried))) < 2 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in tried):
        return ""
    ends = {min(tried): " (the least tried)", max(tried): " (the greatest tried)"}
    return ends.get(value, "")


def _tuning_rows(tuning: Tuning) -> list[dict[str, Any]]:
    rows = []
    for candidate, outcome in tuning.outcomes.items():
        row: dict[str, Any] = {"variant": tuning.variant.label}
        row |= {key: text for key, _, text in (option.partition("=") for option in candidate)}
        if outcome.result is not None:
            name = outcome.result["metric"]
            row |= {f"validation_{name}": _validation_value(outcome.result), "epochs": outcome.result["epochs"]}
        chosen = "chosen" if candidate == tuning.best else ""
        rows.append(row | {"outcome": "failed" if outcome.error else chosen})
    return rows


def _validation_value(result: Mapping[str, Any]) -> float:
    return float((result["validation_last"] or {}).get(result["metric"], math.nan))


# Seeds.


def _train_seeds(
    seeds: Sequence[int], folder: Path, tunings: Sequence[Tuning], scheduler: Scheduler
) -> dict[tuple[Variant, int], Outcome]:
    """Train every seed of every variant; return how each run ended."""
    runs = {
        (tuning.variant, seed): TrainingRun(
            f"{tuning.variant.label}, seed {seed}",
            changed(tuning.recipe, {"training": {"seed": seed}}),
            tuning.variant.run_folder(folder, seed),
        )
        for seed in seeds
        for tuning in tunings
        if tuning.succeeded
    }
    outcomes = scheduler.train(iter(runs.values()), partial(_log_outcome, scheduler.log, tune=False))
    untuned = {
        (tuning.variant, seed): Outcome(error=_why_untuned(tuning))
        for tuning in tunings
        for seed in seeds
        if not tuning.succeeded
    }
    return {key: outcomes[run] for key, run in runs.items()} | untuned


def _why_untuned(tuning: Tuning) -> str:
    errors = [f"{' '.join(candidate)}: {outcome.error}" for candidate, outcome in tuning.outcomes.items()]
    return f"no candidate of --tune has a validation metric ({errors[0]})"


def _log_outcome(log: Callable[[str], None], run: TrainingRun, outcome: Outcome, tune: bool) -> None:
    if outcome.result is None:
        log(f"FAILED {run.label}: {outcome.error} (log: {run.folder}.log)")
        return
    metric = Metric.of(outcome.result)
    if tune:
        log(f"{run.label}: validation {metric.name} {metric.format(_validation_value(outcome.result))}")
    else:
        log(f"{run.label}: {metric.name} {metric.format(metric.value_of(outcome.result, 'last') / metric.scale)}")


def changed_imports(folders: Iterable[RunFolder], imported: Sequence[dict[str, Any]], remedy: str) -> list[str]:
    """Return a line, which ends with a remedy, for each imported file that changed since runs finished with it."""
    runs: dict[str, list[RunFolder]] = {}
    for folder in folders:
        for name in folder.changed_imports(imported) if folder.is_finished else ():
            runs.setdefault(name, []).append(folder)
    return [
        f"{name} has changed since {len(of)} finished runs were trained with it (first {of[0]}): {remedy}"
        for name, of in runs.items()
    ]
