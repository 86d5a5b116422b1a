"""A pool of training runs: each is a process of its own, and a signal stops all of them."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..recipes import Recipe
from ..recipes.entries import write_recipe
from ..training import RunFolder
from ..training.interruption import handling_signals
from ._terminal import PROGRAM, STOPPED
from .train import PARENT

POLL_SECONDS = 0.1
Result = Mapping[str, Any]
"""The content of ``result.json``."""


@dataclass(eq=False)
class TrainingRun:
    """A run to train, and its result or error; its recipe and its log are written next to its folder."""

    label: str
    recipe: Recipe
    folder: RunFolder
    result: Result | None = None
    error: str = ""

    def file(self, suffix: str) -> Path:
        """Return the path of the recipe (``.yaml``) or the log (``.log``) next to the folder."""
        return Path(f"{self.folder.path}{suffix}")


class RunPool:
    """Trains runs, some of them at the same time; they share the CPU threads of the machine."""

    def __init__(self, jobs: int, imports: Sequence[str] = (), log: Callable[[str], None] = print) -> None:
        self.jobs, self.imports, self.log = jobs, imports, log
        self.threads = max(1, usable_cores() // jobs)
        self._processes: dict[TrainingRun, subprocess.Popen[bytes]] = {}
        self._signals: list[int] = []
        self._passed_on = 0

    def train(self, runs: Sequence[TrainingRun], describe: Callable[[Result], str]) -> None:
        """Train runs, and set the result or the error of each. A run that is finished is not trained again.

        A signal asks all runs to save and stop, and a second one kills them. It takes effect here when they have ended.
        """
        waiting = deque(runs)
        with handling_signals(lambda number, _: self._signals.append(number)):
            try:
                while self._processes or (waiting and not self._signals):
                    if waiting and len(self._processes) < self.jobs and not self._signals:
                        ended = self._start(waiting.popleft())
                    else:
                        time.sleep(POLL_SECONDS)
                        self._pass_on_signals()
                        ended = self._collect()
                    for run in ended:
                        text = "" if run.result is None else f"{run.label}: {describe(run.result)}"
                        self.log(text or f"FAILED {run.label}: {run.error} (log: {run.file('.log')})")
            finally:
                for process in self._processes.values():
                    process.terminate()
        if self._signals:
            number = self._signals[0]
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _start(self, run: TrainingRun) -> list[TrainingRun]:
        """Start the process of a run; return the run if it needs none."""
        try:
            if run.folder.is_finished:
                run.folder.check_recipe(run.recipe.to_dict())
                run.result = run.folder.read_result()
                return [run]
            write_recipe(run.recipe, run.file(".yaml"))
            command = ["-m", "shortcut_snn", "train", "--config", str(run.file(".yaml"))]
            command += ["--out", str(run.folder.path), "--resume"]
            command += [word for name in self.imports for word in ("--import", name)]
            self._processes[run] = start_python(command, run.file(".log"), self.threads)
        except (ValueError, OSError) as error:
            run.error = str(error)
            return [run]
        return []

    def _collect(self) -> list[TrainingRun]:
        """Return the runs whose processes have ended, without those that were stopped."""
        ended = []
        for run, process in list(self._processes.items()):
            status = process.poll()
            if status is None:
                continue
            del self._processes[run]
            if status and self._signals:
                self.log(f"stopped {run.label}; {STOPPED}")
                continue
            ended.append(run)
            try:
                if status:
                    run.error = failure_reason(status, run.file(".log"))
                else:
                    run.result = run.folder.read_result()
            except (ValueError, OSError) as error:
                run.error = str(error)
        return ended

    def _pass_on_signals(self) -> None:
        """Ask all processes to save and stop at the first signal, and kill them at the second."""
        if self._passed_on == len(self._signals):
            return
        self._passed_on += 1
        if self._passed_on == 1:
            self.log(f"stopping {len(self._processes)} runs: they save their state; a second signal kills them")
        for process in self._processes.values():
            process.terminate() if self._passed_on == 1 else process.kill()


def start_python(arguments: Sequence[str], log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start Python in a session of its own, so that Ctrl-C in a terminal reaches this process alone.

    Nothing is imported from the current folder; ``PYTHONPATH`` is respected.
    """
    # A link is not followed: in a folder from elsewhere it may point at any file of the user's.
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with os.fdopen(descriptor, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads)} | os.environ | {PARENT: str(os.getpid())},
            start_new_session=True,
        )


def failure_reason(status: int, log: Path) -> str:
    """Return why a command failed: the signal that ended it, its last error message, or the last line of its log."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (was there enough memory?)" if name == "SIGKILL" else "")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    # Errors before a traceback may be those of an earlier attempt.
    lines = lines[max((i for i, line in enumerate(lines) if line.startswith("Traceback (")), default=0) :]
    errors = [line.removeprefix(PROGRAM).removeprefix("error: ") for line in lines if line.startswith(PROGRAM)]
    return (errors or lines or [f"exit status {status}"])[-1]


def usable_cores() -> int:
    """Return the number of cores of this process: a container or a batch system may allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
