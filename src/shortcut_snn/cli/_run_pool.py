"""A pool that trains many runs, some of them at the same time, and stops all of them together."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..recipes import Recipe, write_recipe
from ..training import RunFolder, handling_signals
from ._executors import Executor, Job, failure_reason
from ._terminal import STOPPED

POLL_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run to train in a process of its own; its recipe and its log are written next to its folder."""

    label: str
    recipe: Recipe
    folder: RunFolder

    def file(self, suffix: str) -> Path:
        """Return the path of the recipe (``.yaml``) or the log (``.log``) next to the folder."""
        return Path(f"{self.folder.path}{suffix}")


@dataclass(frozen=True)
class Outcome:
    """How a run ended. A run that was stopped before its end has neither a result nor an error."""

    result: dict[str, Any] | None = None
    error: str = ""

    @property
    def is_disk_full(self) -> bool:
        """True if the run failed because no file could be written, as every other run would."""
        return any(os.strerror(number) in self.error for number in (errno.ENOSPC, errno.EDQUOT))


class RunPool:
    """Threads, each of which trains one run at a time in a process and waits for it.

    The first signal asks all runs to save and stop, and a second one kills them. The signal takes effect in this
    process when all runs have ended.

    Args:
        jobs: how many run at the same time.
        imports: files and modules that every run imports.
    """

    def __init__(
        self, executor: Executor, jobs: int, imports: Sequence[str] = (), log: Callable[[str], None] = print
    ) -> None:
        self.executor, self.jobs, self.imports, self.log = executor, jobs, imports, log
        self._stopping = threading.Event()
        self._signals: list[int] = []

    @property
    def is_stopping(self) -> bool:
        """True once a signal or an error has stopped the runs."""
        return self._stopping.is_set()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Call a function, which trains a run, with each item in a thread; return its values.

        Items that are left when the pool stops have None.

        Raises:
            KeyboardInterrupt: Ctrl-C stopped the runs.
            SystemExit: another signal stopped them.
        """

        def call(item: Any) -> Any:
            try:
                return None if self.is_stopping else function(item)
            except BaseException:
                self._stopping.set()
                raise

        with handling_signals(self._note), ThreadPoolExecutor(self.jobs) as threads:
            values = list(threads.map(call, items))
        if self._signals:
            number = self._signals[0]
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        return values

    def train(self, run: TrainingRun, stops_early: Callable[[], bool] = lambda: False) -> Outcome:
        """Train a run in a process, and wait until it ends. A run that is finished already is not trained again.

        Args:
            run: the run.
            stops_early: polled while the run trains; once it returns True, the run is stopped.
        """
        try:
            if run.folder.is_finished:
                run.folder.check_recipe(run.recipe.to_dict())
                return Outcome(run.folder.read_result())
            write_recipe(run.recipe, run.file(".yaml"))
            command = ["-m", "shortcut_snn", "train", "--config", str(run.file(".yaml"))]
            command += ["--out", str(run.folder.path), "--resume"]
            command += [word for name in self.imports for word in ("--import", name)]
            status, stopped = self._wait(run, self.executor.submit(command, run.file(".log")), stops_early)
            if status == 0:
                return Outcome(run.folder.read_result())
        except (ValueError, OSError) as error:
            return Outcome(error=str(error))
        if not stopped:
            return Outcome(error=failure_reason(status, run.file(".log")))
        if self.is_stopping:
            self.log(f"stopped {run.label}; {STOPPED}")
        return Outcome()

    def _wait(self, run: TrainingRun, job: Job, stops_early: Callable[[], bool]) -> tuple[int, bool]:
        """Return the exit status of a job, and whether it was asked to stop."""
        stopped = False
        try:
            while (status := job.poll()) is None:
                if not stopped and (self.is_stopping or stops_early()):
                    stopped = True
                    job.stop()
                    if self._signals:
                        self.log(f"stopping {run.label}: it saves its state; a second signal kills it")
                if len(self._signals) > 1:
                    job.kill()
                time.sleep(POLL_SECONDS)
        except BaseException:
            job.stop()
            raise
        return status, stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
        self._stopping.set()


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
