"""A search: a study of Optuna, and a run for each of its trials."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..._utils.files import refuse_others, replacing
from ...recipes import Recipe, build, from_dict
from ...training import MAY_CHANGE_ON_RESUME, Metric, RunFolder, read_rows, recipe_differences
from .._run_pool import RunPool, TrainingRun
from .space import Space, entries_at, params_of, point_of, point_text

LOCK_SECONDS = 30.0
"""How long another program, such as a dashboard, may lock the study."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Search:
    """A search in a folder: ``study.db``, Optuna's study, and ``trials/``, the runs of its trials.

    Args:
        folder: created; a search that it holds is continued.
        make_sampler: returns the sampler of a trial by its number, so that a continued search draws what an
            uninterrupted one would have drawn.
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
        self.path = folder.absolute() / "study.db"
        with self.storage_errors():
            self.study, self.metric = self._open()

    def _storage(self, path: Path) -> optuna.storages.RDBStorage:
        # A connection of our own: in a URL, characters such as "?" and "%" of the path have a meaning.
        connect = partial(sqlite3.connect, path, timeout=LOCK_SECONDS)
        return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": NullPool})

    @contextmanager
    def storage_errors(self) -> Iterator[None]:
        """Turn an error of the study's database into a line."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError, RuntimeError, KeyError, AssertionError) as error:
            reason = " ".join(str(error.__cause__ or error).split("[SQL")[0].split())
            raise ValueError(f"{self.path} cannot be read or written: {reason[:200]}") from error

    def _open(self) -> tuple[optuna.Study, Metric]:
        """Open the folder's study, or create it; return it with the metric of its trials."""
        identity = {
            "entries": json.loads(json.dumps(self.entries)),
            "space": {key: json.loads(distribution_to_json(each)) for key, each in self.space.items()},
        }
        if not self.path.is_file():
            refuse_others(self.folder, f"{self.folder} is not empty and holds no search", {"jobs", "run.lock"})
            description = validation_metric(from_dict(self.entries))
            metric = Metric.of(description)
            direction = StudyDirection.MAXIMIZE if metric.higher_is_better else StudyDirection.MINIMIZE
            # A study that is half created, for example on a full disk, could not be opened again.
            with replacing(self.path) as path:
                study = optuna.create_study(study_name="sweep", storage=self._storage(path), direction=direction)
                for name, value in (identity | {"metric": description}).items():
                    study.set_user_attr(name, value)
        study = optuna.load_study(study_name="sweep", storage=self._storage(self.path), pruner=self.pruner)
        before = study.user_attrs
        metric = Metric.of(before["metric"])
        for key, (was, now) in recipe_differences({key: before.get(key) for key in identity}, identity).items():
            if key.removeprefix("entries.") in MAY_CHANGE_ON_RESUME:
                continue
            raise ValueError(f"{self.folder} holds another search ({key} was {was} and is {now}); name another folder")
        return study, metric

    def trials(self, *states: TrialState) -> Sequence[FrozenTrial]:
        """Return the trials in some states; without an argument all that have begun."""
        return self.study.get_trials(deepcopy=False, states=states or (*ENDED, TrialState.FAIL, TrialState.RUNNING))

    def folder_of(self, number: int) -> RunFolder:
        """Return the folder of a trial's run."""
        return RunFolder(self.folder / "trials" / f"{number:04d}")

    # Running.

    def run(self, count: int, pool: RunPool, first: Sequence[Mapping[str, Any]] = ()) -> None:
        """Run trials, first at some points, until the search has ``count`` of them, earlier ones included."""
        for point in first:
            self.study.enqueue_trial(params_of(point), skip_if_exists=True)
        begun = len(self.trials())
        self.log(f"{max(begun, count)} trials in {self.folder}" + (f", {begun} of them begun before" if begun else ""))
        pool.map(partial(self._train, pool), [*self._interrupted(), *[None] * (count - begun)])

    def _interrupted(self) -> list[Trial]:
        """Return the trials that an earlier command began."""
        trials = []
        for frozen in self.trials(TrialState.RUNNING):
            # A trial that was killed while Optuna drew it has no values for all entries.
            if frozen.params.keys() == self.space.keys():
                trials.append(Trial(self.study, frozen._trial_id))
            else:
                self.study.tell(frozen.number, state=TrialState.FAIL)
        return trials

    def _train(self, pool: RunPool, trial: Trial | None) -> None:
        """Train the run of a trial, by default of a new one, and tell Optuna how it ended."""
        if trial is None:
            self.study.sampler = self.make_sampler(len(self.trials()))
            trial = self.study.ask(self.space)
        label, folder = f"trial {trial.number} ({point_text(self.point(trial))})", self.folder_of(trial.number)
        try:
            recipe = self.recipe(trial)
        except ValueError as error:
            # The values are valid one by one, but not together.
            self._fail(trial, label, str(error))
            return
        prune = partial(self._should_prune, trial, recipe.training.epochs)
        outcome = pool.train(TrainingRun(label, recipe, folder), prune)
        if outcome.result is None and not outcome.error and pool.is_stopping:
            return
        if outcome.is_disk_full:
            # The trial is not told to Optuna, so that the next command continues it.
            raise ValueError(f"{label}: {outcome.error}; make room and repeat the command, which continues the trial")
        prune()
        value = float(((outcome.result or {}).get("validation_last") or {}).get(self.metric.name, math.nan))
        if math.isfinite(value):
            self.study.tell(trial, value)
            self.log(f"{label}: {self.metric.name} {self.metric.format(value)}")
        elif outcome.result is None and not outcome.error:
            self.study.tell(trial, state=TrialState.PRUNED)
            self.log(f"{label}: stopped after {len(self._validation_values(trial))} epochs, as others were better then")
        else:
            reason = outcome.error or f"validation {self.metric.title} is {value} after the last epoch"
            self._fail(trial, label, f"{reason} (log: {folder}.log)")

    def _should_prune(self, trial: Trial, epochs: int) -> bool:
        """Report the validation metric of new epochs to Optuna; return whether its pruner stops the trial."""
        reported = self.study.trials[trial.number].intermediate_values
        values = self._validation_values(trial)
        for epoch in range(len(reported) + 1, len(values) + 1):
            trial.report(values[epoch - 1], epoch)
        return len(reported) < len(values) < epochs and trial.should_prune()

    def _validation_values(self, trial: Trial) -> list[float]:
        """Return the validation metric after each epoch of a trial so far."""
        rows = read_rows(self.folder_of(trial.number).table("metrics"))
        return [row.get(f"validation_{self.metric.name}", math.nan) for row in rows]

    def _fail(self, trial: Trial, label: str, error: str) -> None:
        self.study.tell(trial, state=TrialState.FAIL)
        self.log(f"FAILED {label}: {error}")

    # Results.

    @property
    def best(self) -> FrozenTrial | None:
        """The best finished trial."""
        return self.study.best_trial if self.trials(TrialState.COMPLETE) else None

    def point(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """Return a trial's values by key."""
        return point_of(trial.params)

    def recipe(self, trial: Trial | FrozenTrial) -> Recipe:
        """Return a trial's recipe."""
        return from_dict(entries_at(self.entries, self.point(trial)))


def validation_metric(recipe: Recipe) -> dict[str, Any]:
    """Return the metric by which a recipe's runs are judged: its name, direction, unit and chance level."""
    task, data = build(recipe)
    if data.loaders(recipe.training.seed).validation is None:
        remedy = ": add --data.validation 0.1" if hasattr(recipe.data, "validation") else ""
        raise ValueError(f"values are chosen on validation data, and this recipe has none{remedy}")
    return {name: getattr(task, name) for name in ("metric", "higher_is_better", "fraction", "chance")}
