"""A search: Optuna's study, and the runs of its trials in a folder."""

import csv
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...files import read_json, refuse_others, write_text
from ...recipes.entries import from_dict
from ...training import Metric, RunFolder, recipe_differences
from .._children import Children, Stopped
from .._launchers import Launcher, train
from .._parser import STOPPED
from ..compare import held_out
from .space import Dimension, at, point_text

HOPELESS = 3
"""So many trials that fail, before any that does not, end a search."""


class Search:
    """A search in a folder: Optuna's study, and the runs of its trials.

    Args:
        folder: where it is; created.
        entries: of the recipe.
        space: what is searched for.
        sampler: makes the sampler of a trial of its number, so that a search that goes on draws what it would have.
        pruner: one of Optuna's.
        imports: files and modules that every run imports.
        tell: takes a line as each trial ends.

    Raises:
        ValueError: the folder holds another search, or something else; the recipe holds out no validation data.
    """

    def __init__(
        self,
        folder: Path,
        entries: Mapping[str, Any],
        space: Sequence[Dimension],
        sampler: Callable[[int], Any],
        pruner: Any,
        imports: Sequence[str] = (),
        tell: Callable[[str], None] = print,
    ) -> None:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        self.folder, self.entries, self.space, self.sampler = folder, entries, space, sampler
        self.imports, self.tell, self.optuna = imports, tell, optuna
        self.lock = threading.Lock()
        self.failed = 0
        self.reason = ""
        start = {each.key: each.ends[0] for each in space}
        recipe = from_dict(at(entries, start))
        # What a choice makes other than the first does: its own options are no part of the recipe.
        choices = {}
        for each in space:
            for choice in each.choices:
                made = from_dict(at(entries, start | {each.key: json.loads(choice)})).to_dict()
                found = recipe_differences(recipe.to_dict(), made).items()
                choices[f"{each.key}={choice}"] = {key: now for key, (_, now) in found}
        shown = {"recipe": recipe.to_dict(), "space": {d.key: asdict(d) for d in space}, "choices": choices}
        known = json.loads(json.dumps(shown))
        about = read_json(folder / "sweep.json")
        if not about:
            refuse_others(folder, f"{folder} is not empty and holds no search", {"jobs"})
            about = known | held_out(recipe)
            write_text(folder / "sweep.json", json.dumps(about, indent=2) + "\n")
        # Searches of earlier versions say nothing of choices.
        about = {"choices": known["choices"]} | about
        changed = recipe_differences({key: about.get(key) for key in known}, known)
        if changed:
            key, (was, now) = next(iter(changed.items()))
            raise ValueError(f"{folder} holds another search ({key} was {was} and is {now}); name another folder")
        self.about, self.metric = about, Metric.of(about)
        try:
            self.study = optuna.create_study(
                study_name="sweep",
                storage=optuna.storages.RDBStorage(f"sqlite:///{(folder / 'study.db').absolute()}"),
                sampler=sampler(0),
                pruner=pruner,
                direction="maximize" if self.metric.higher_is_better else "minimize",
                load_if_exists=True,
            )
            unfinished = self.trials("RUNNING")
        except (SQLAlchemyError, RuntimeError, AssertionError) as error:
            raise ValueError(f"{folder / 'study.db'} is damaged: {' '.join(str(error).split())[:200]}") from None
        self.waiting = [optuna.trial.Trial(self.study, each._trial_id) for each in unfinished]

    def trials(self, *states: str) -> list[Any]:
        """Return what Optuna knows of the trials in some states, or all."""
        found = [getattr(self.optuna.trial.TrialState, state) for state in states]
        known: list[Any] = self.study.get_trials(deepcopy=False, states=tuple(found) or None)
        return known

    def place(self, number: int) -> RunFolder:
        """Return the folder of a trial's run."""
        return RunFolder(self.folder / "trials" / f"{number:04d}")

    def run(self, count: int, jobs: int, launcher: Launcher) -> None:
        """Go on until there are so many trials.

        Raises:
            ValueError: the first trials all failed.
        """
        done = len(self.trials())
        self.tell(f"{max(done, count)} trials in {self.folder}" + (f", {done} of them begun before" if done else ""))
        children = Children(self.tell)

        def work(_: int) -> None:
            while (trial := self._next(count)) is not None:
                try:
                    self._try(trial, children, launcher)
                except Stopped:
                    self.tell(f"stopped trial {trial.number}; {STOPPED}")
                    return

        with ThreadPoolExecutor(jobs) as pool, children.block():
            list(pool.map(work, range(jobs)))
        if self._all_tried() and not self.trials("RUNNING"):
            self.tell("all combinations of values have been tried")
        if self._hopeless():
            raise ValueError(f"the first {self.failed} trials failed, the last with: {self.reason}")

    def _hopeless(self) -> bool:
        return self.failed >= HOPELESS and not self.trials("COMPLETE", "PRUNED")

    def _all_tried(self) -> bool:
        """Say whether brute force is through: asked for more, it would try some again."""
        tried = {json.dumps(trial.params, sort_keys=True) for trial in self.trials()}
        all_tried = len(tried) >= math.prod(each.size for each in self.space)
        return all_tried and isinstance(self.study.sampler, self.optuna.samplers.BruteForceSampler)

    def _next(self, count: int) -> Any:
        with self.lock:
            if self.waiting:
                return self.waiting.pop(0)
            number = len(self.trials())
            if number >= count or self._hopeless() or self._all_tried():
                return None
            self.study.sampler = self.sampler(number)
            trial = self.study.ask()
            for each in self.space:
                each.suggest(trial)
            return trial

    def _try(self, trial: Any, children: Children, launcher: Launcher) -> None:
        states = self.optuna.trial.TrialState
        place, shown = self.place(trial.number), f"trial {trial.number}"
        state, value, said = states.FAIL, None, ""
        with self.lock:
            # What was killed while it was drawn is drawn now.
            point = {each.key: each.suggest(trial) for each in self.space}
            reported = set(self.study.trials[trial.number].intermediate_values)
        pruned = False

        def enough() -> bool:
            nonlocal pruned
            epochs = self._report(trial, place, reported)
            with self.lock:
                pruned = 0 < epochs < recipe.training.epochs and trial.should_prune()
            return pruned

        try:
            recipe = from_dict(at(self.entries, point))
            if place.is_finished:
                place.check_same(recipe.to_dict())
            else:
                train(children, launcher, recipe, place, self.imports, enough, self.tell)
            self._report(trial, place, reported)
            value = float((place.read_result()["validation_last"] or {}).get(self.metric.name, math.nan))
            if not math.isfinite(value):
                raise ValueError(f"validation {self.metric.title} is {value} after the last epoch")
            state, said = states.COMPLETE, f"{self.metric.name} {self.metric.format(value)}"
        except Stopped:
            if not pruned:
                raise
            state, said = states.PRUNED, f"stopped after {len(reported)} epochs, for others were better by then"
        except (ValueError, OSError) as error:
            self.reason, value = str(error), None
            shown, said = f"FAILED {shown}", f"{error} (log: {place}.log)"
        with self.lock:
            self.failed += state == states.FAIL
            try:
                self.study.tell(trial, value, state)
            except RuntimeError:
                # Brute force that is through means to stop a loop of Optuna's own; the trial has been noted by then.
                if not self._all_tried():
                    raise
        self.tell(f"{shown}: {said} ({point_text(point)})")

    def _report(self, trial: Any, place: RunFolder, reported: set[int]) -> int:
        """Hand on what is new of validation after each epoch; return how many epochs there are."""
        try:
            with place.table("metrics").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            return 0
        with self.lock:
            for epoch, row in enumerate(rows, 1):
                if epoch not in reported:
                    trial.report(float(row.get(f"validation_{self.metric.name}") or math.nan), epoch)
                    reported.add(epoch)
        return len(rows)

    # What came of it.

    def varies(self, key: str) -> bool:
        """Say whether an entry, or a part of it, may differ between trials."""
        ranges = {each.key for each in self.space if not each.choices}
        found = ranges.union(*self.about["choices"].values())
        return any(f"{key}.".startswith(f"{other}.") or other.startswith(f"{key}.") for other in found)

    @property
    def best(self) -> Any:
        """The best trial, None where none has finished."""
        return self.study.best_trial if self.trials("COMPLETE") else None

    def point(self, trial: Any) -> dict[str, Any]:
        """Return a trial's values by key."""
        return {
            each.key: json.loads(trial.params[each.key]) if each.choices else trial.params[each.key]
            for each in self.space
            if each.key in trial.params
        }

    def importances(self) -> dict[str, float]:
        """Return which share of the metric's variance each entry explains (fANOVA), of trials that finished."""
        if len(self.trials("COMPLETE")) < 4:
            return {}
        try:
            return dict(self.optuna.importance.get_param_importances(self.study, evaluator=self.evaluator()))
        except (ValueError, RuntimeError):
            # All are the same.
            return {}

    def evaluator(self) -> Any:
        """Return what says how much an entry mattered."""
        return self.optuna.importance.FanovaImportanceEvaluator(seed=0)
