"""A search: a study of Optuna, and a run for each of its trials."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ...files import make_folder, refuse_others
from ...recipes import Recipe, from_dict
from ...training import Metric, RunFolder, recipe_differences
from .._scheduler import Outcome, Scheduler, TrainingRun
from ..compare import validation_metric
from .space import Space, entries_at, first_point, point_of, point_text

MAX_FAILURES = 3
"""The search ends when its first trials, this many of them, all fail."""


class Search:
    """A search in a folder: ``study.db``, Optuna's study, and ``trials/``, the runs of its trials.

    Args:
        folder: created; a search that it holds is continued.
        entries: of the recipe.
        space: what is searched.
        make_sampler: returns the sampler of a trial by its number, so that a continued search draws what an
            uninterrupted one would have drawn.
        pruner: one of Optuna's.
        log: receives a line as each trial ends.

    Raises:
        ValueError: the folder holds another search, or the recipe has no validation data.
        FileExistsError: the folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        entries: Mapping[str, Any],
        space: Space,
        make_sampler: Callable[[int], optuna.samplers.BaseSampler],
        pruner: optuna.pruners.BasePruner,
        log: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.entries, self.space = folder, entries, space
        self.make_sampler, self.pruner, self.log = make_sampler, pruner, log
        self.study, self.metric = self._open()
        self._trials: dict[TrainingRun, Trial] = {}
        self._errors: list[str] = []

    def _open(self) -> tuple[optuna.Study, Metric]:
        """Open the folder's study, or create it; return it with the metric of its trials."""
        path = self.folder / "study.db"
        identity = {
            "entries": json.loads(json.dumps(self.entries)),
            "space": {key: json.loads(distribution_to_json(each)) for key, each in self.space.items()},
        }
        storage = f"sqlite:///{path.absolute()}"
        try:
            if path.is_file():
                study = optuna.load_study(
                    study_name="sweep", storage=storage, sampler=self.make_sampler(0), pruner=self.pruner
                )
                before = study.user_attrs
                for key, (was, now) in recipe_differences({key: before.get(key) for key in identity}, identity).items():
                    raise ValueError(
                        f"{self.folder} holds another search ({key} was {was} and is {now}); name another folder"
                    )
                return study, Metric.of(before["metric"])
        except (SQLAlchemyError, RuntimeError, KeyError, AssertionError) as error:
            raise ValueError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from None
        refuse_others(self.folder, f"{self.folder} is not empty and holds no search", {"jobs", "run.lock"})
        description = validation_metric(from_dict(entries_at(self.entries, first_point(self.space))))
        metric = Metric.of(description)
        make_folder(self.folder)
        study = optuna.create_study(
            study_name="sweep",
            storage=storage,
            sampler=self.make_sampler(0),
            pruner=self.pruner,
            direction="maximize" if metric.higher_is_better else "minimize",
        )
        for name, value in (identity | {"metric": description}).items():
            study.set_user_attr(name, value)
        return study, metric

    def trials(self, *states: TrialState) -> Sequence[FrozenTrial]:
        """Return the trials in some states; without an argument all trials."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def folder_of(self, number: int) -> RunFolder:
        """Return the folder of a trial's run."""
        return RunFolder(self.folder / "trials" / f"{number:04d}")

    # Running.

    def run(self, count: int, scheduler: Scheduler) -> None:
        """Run trials until the search has ``count`` of them, those of earlier commands included.

        Raises:
            ValueError: the first trials all failed.
        """
        begun = len(self.trials())
        self.log(f"{max(begun, count)} trials in {self.folder}" + (f", {begun} of them begun before" if begun else ""))
        scheduler.train(self._runs(count), self._on_end)
        if self._is_hopeless():
            raise ValueError(f"the first {MAX_FAILURES} trials failed, the last with: {self._errors[-1]}")

    def _runs(self, count: int) -> Iterator[TrainingRun]:
        """Yield the runs of interrupted trials, then those of new ones."""
        for frozen in self.trials(TrialState.RUNNING):
            # A trial that was killed while Optuna drew it has no values for all entries.
            if frozen.params.keys() == self.space.keys():
                yield from self._run_of(Trial(self.study, frozen._trial_id))
            else:
                self.study.tell(frozen.number, state=TrialState.FAIL)
        while (number := len(self.trials())) < count and not self._is_hopeless():
            self.study.sampler = self.make_sampler(number)
            yield from self._run_of(self.study.ask(self.space))

    def _run_of(self, trial: Trial) -> Iterator[TrainingRun]:
        """Yield the run of a trial; a trial whose values the recipe refuses together fails instead."""
        label = f"trial {trial.number} ({point_text(self.point(trial))})"
        try:
            recipe = self.recipe(trial)
        except ValueError as error:
            self._fail(trial, label, str(error))
            return
        stops_early = partial(self._should_prune, trial, recipe.training.epochs)
        run = TrainingRun(label, recipe, self.folder_of(trial.number), stops_early)
        self._trials[run] = trial
        yield run

    def _should_prune(self, trial: Trial, epochs: int) -> bool:
        """Report the validation metric of new epochs to Optuna; return whether its pruner stops the trial."""
        reported = self.study.trials[trial.number].intermediate_values
        values = self._validation_values(trial.number)
        for epoch in range(len(reported) + 1, len(values) + 1):
            trial.report(values[epoch - 1], epoch)
        return len(reported) < len(values) < epochs and trial.should_prune()

    def _validation_values(self, number: int) -> list[float]:
        """Return the validation metric after each epoch of a trial so far."""
        try:
            with self.folder_of(number).table("metrics").open(encoding="utf-8", newline="") as file:
                return [float(row.get(f"validation_{self.metric.name}") or math.nan) for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []

    def _on_end(self, run: TrainingRun, outcome: Outcome) -> None:
        trial = self._trials.pop(run)
        self._should_prune(trial, run.recipe.training.epochs)
        if outcome.stopped_early:
            self.study.tell(trial, state=TrialState.PRUNED)
            epochs = len(self._validation_values(trial.number))
            self.log(f"{run.label}: stopped after {epochs} epochs, as others were better by then")
            return
        value = float(((outcome.result or {}).get("validation_last") or {}).get(self.metric.name, math.nan))
        if math.isfinite(value):
            self.study.tell(trial, value)
            self.log(f"{run.label}: {self.metric.name} {self.metric.format(value)}")
        else:
            error = outcome.error or f"validation {self.metric.title} is {value} after the last epoch"
            self._fail(trial, run.label, f"{error} (log: {run.folder}.log)")

    def _fail(self, trial: Trial, label: str, error: str) -> None:
        self.study.tell(trial, state=TrialState.FAIL)
        self._errors.append(error)
        self.log(f"FAILED {label}: {error}")

    def _is_hopeless(self) -> bool:
        return len(self._errors) >= MAX_FAILURES and not self.trials(TrialState.COMPLETE, TrialState.PRUNED)

    # Results.

    @property
    def best(self) -> FrozenTrial | None:
        """The best finished trial."""
        return self.study.best_trial if self.trials(TrialState.COMPLETE) else None

    def point(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """Return a trial's values by key."""
        return point_of(trial.params)

    def recipe(self, trial: Trial | FrozenTrial) -> Recipe:
        """Return a trial's recipe.

        Raises:
            ValueError: the recipe refuses the trial's values together.
        """
        return from_dict(entries_at(self.entries, self.point(trial)))

    def importances(self) -> dict[str, float]:
        """Return the share of the metric's variance over finished trials that each entry explains (fANOVA)."""
        if len(self.trials(TrialState.COMPLETE)) < 4:
            return {}
        try:
            return optuna.importance.get_param_importances(self.study, evaluator=evaluator())
        except (ValueError, RuntimeError):
            # All values are equal.
            return {}


def evaluator() -> optuna.importance.BaseImportanceEvaluator:
    """Return the evaluator of importances, with a fixed seed."""
    return optuna.importance.FanovaImportanceEvaluator(seed=0)
