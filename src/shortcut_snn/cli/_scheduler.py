"""Train many runs, some of them at the same time, and stop all of them together."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..recipes import Recipe, write_recipe
from ..training import SIGNALS, RunFolder
from ._children import failure_reason
from ._launchers import Job, Launcher, WorkerLost
from ._parser import STOPPED

STARTS = 4
"""How often a run is started whose worker dies."""
POLL_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run to train in a process of its own.

    Args:
        label: its name in messages.
        recipe: what to train.
        folder: where the run goes; its recipe and its log are written next to it.
        stops_early: polled while the run trains; once it returns True, the run is stopped.
    """

    label: str
    recipe: Recipe
    folder: RunFolder
    stops_early: Callable[[], bool] = lambda: False

    def file(self, suffix: str) -> Path:
        """Return the path of the recipe (``.yaml``) or the log (``.log``) next to the folder."""
        return Path(f"{self.folder.path.absolute()}{suffix}")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        result: of a finished run.
        error: why it failed.
    """

    result: dict[str, Any] | None = None
    error: str = ""

    @property
    def stopped_early(self) -> bool:
        """True for a run that was stopped before its end."""
        return self.result is None and not self.error


OnEnd = Callable[[TrainingRun, Outcome], None]


@dataclass
class _Active:
    """A run that is training."""

    run: TrainingRun
    job: Job
    starts: int = 1
    stopping: bool = False


class Scheduler:
    """Train runs as child processes, at most ``jobs`` of them at the same time.

    A run that is finished already is not trained again. A run whose worker dies is started again and resumes from its
    last checkpoint. The first signal asks all runs to save and stop, and a second one kills them; the signal takes
    effect in this process when all runs have ended.

    Args:
        launcher: starts the processes.
        jobs: how many run at the same time.
        imports: files and modules that every run imports.
        log: receives lines of text.
    """

    def __init__(
        self, launcher: Launcher, jobs: int, imports: Sequence[str] = (), log: Callable[[str], None] = print
    ) -> None:
        self.launcher, self.jobs, self.imports, self.log = launcher, jobs, imports, log
        self._signals: list[int] = []

    def train(self, runs: Iterator[TrainingRun], on_end: OnEnd) -> dict[TrainingRun, Outcome]:
        """Train all runs and return how they ended.

        Args:
            runs: the next run is drawn when a job is free.
            on_end: called as each run ends, unless a signal stopped it.

        Raises:
            KeyboardInterrupt: Ctrl-C stopped the runs.
            SystemExit: another signal stopped them.
        """
        active: list[_Active] = []
        outcomes: dict[TrainingRun, Outcome] = {}

        def end(run: TrainingRun, outcome: Outcome) -> None:
            outcomes[run] = outcome
            on_end(run, outcome)

        with self._noting_signals():
            try:
                while self._start_runs(runs, active, end) or active:
                    self._pass_signals_on(active)
                    for each in list(active):
                        if self._has_ended(each, end):
                            active.remove(each)
                    time.sleep(POLL_SECONDS)
            except BaseException:
                self._stop_and_wait(active)
                raise
        if self._signals:
            number = self._signals[0]
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        return outcomes

    def _start_runs(self, runs: Iterator[TrainingRun], active: list[_Active], on_end: OnEnd) -> bool:
        """Fill the free jobs; return whether a run was drawn."""
        drawn = False
        while len(active) < self.jobs and not self._signals and (run := next(runs, None)) is not None:
            drawn = True
            begun = self._begin(run)
            if isinstance(begun, _Active):
                active.append(begun)
            else:
                on_end(run, begun)
        return drawn

    def _begin(self, run: TrainingRun) -> _Active | Outcome:
        """Start a run, or return the outcome that its folder already holds."""
        try:
            if run.folder.is_finished:
                run.folder.check_recipe(run.recipe.to_dict())
                return Outcome(run.folder.read_result())
            write_recipe(run.recipe, run.file(".yaml"))
            return _Active(run, self._start(run))
        except (ValueError, OSError) as error:
            return Outcome(error=str(error))

    def _start(self, run: TrainingRun) -> Job:
        command = ["-m", "shortcut_snn", "train", "--config", str(run.file(".yaml"))]
        command += ["--out", str(run.folder.path.absolute()), "--resume"]
        command += [word for name in self.imports for word in ("--import", name)]
        return self.launcher.start(command, run.file(".log"))

    def _has_ended(self, active: _Active, on_end: OnEnd) -> bool:
        run, outcome = active.run, Outcome()
        try:
            if not active.stopping and run.stops_early():
                active.stopping = True
                active.job.stop()
            status = active.job.poll()
            if status is None:
                return False
            if status == 0:
                outcome = Outcome(run.folder.read_result())
            elif not active.stopping:
                outcome = Outcome(error=failure_reason(status, run.file(".log")))
        except WorkerLost as lost:
            if not active.stopping and active.starts < STARTS:
                self.log(f"{run.folder}: {lost}; the run resumes with another")
                active.job, active.starts = self._start(run), active.starts + 1
                return False
            outcome = Outcome() if active.stopping else Outcome(error=f"{lost}; {STARTS} times")
        except (ValueError, OSError) as error:
            outcome = Outcome(error=str(error))
        if self._signals and outcome.stopped_early:
            self.log(f"stopped {run.label}; {STOPPED}")
        else:
            on_end(run, outcome)
        return True

    # Signals.

    @contextmanager
    def _noting_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # A command under nohup ignores SIGHUP, and must continue to.
        numbers = [each for each in SIGNALS if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _pass_signals_on(self, active: list[_Active]) -> None:
        if self._signals and not all(each.stopping for each in active):
            self.log(f"stopping: {len(active)} runs save their state; a second signal kills them")
            for each in active:
                each.stopping = True
                each.job.stop()
        if len(self._signals) > 1:
            for each in active:
                each.job.kill()

    def _stop_and_wait(self, active: list[_Active]) -> None:
        for each in active:
            each.job.stop()
        for each in active:
            while _is_running(each.job):
                self._pass_signals_on(active)
                time.sleep(POLL_SECONDS)


def _is_running(job: Job) -> bool:
    try:
        return job.poll() is None
    except (WorkerLost, ValueError, OSError):
        return False
