"""Executors: they run a command on this machine, or as a job of SLURM through submitit."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._terminal import UsageError, at_least_one, one_line

PARENT = "SHORTCUT_SNN_PARENT_FD"
ERROR = "shortcut-snn: error: "


class ChildProcess:
    """Run Python with arguments in a child process.

    The child's standard input is a pipe on which nothing is sent. The pipe closes in :meth:`stop`, and also when this
    process dies, even by SIGKILL; :func:`follow_parent` turns that into SIGTERM inside the child.

    The child has a session of its own, so that Ctrl-C in a terminal reaches this process alone. Nothing is imported
    from the current folder; ``PYTHONPATH`` is respected.

    Args:
        arguments: Python's, as in ``["-m", "shortcut_snn", "train"]``.
        log: the file to which the child's output is appended.
        threads: CPU threads of the child, unless the environment's ``OMP_NUM_THREADS`` sets them.
        folder: the child's working directory; by default this process's.
    """

    def __init__(self, arguments: Sequence[str], log: Path, threads: int = 1, folder: str | None = None) -> None:
        # A link is not followed: in a folder from elsewhere it may point at any file of the user's.
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        with os.fdopen(descriptor, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": str(threads)} | os.environ | {PARENT: "0"},
                cwd=folder,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the child is running."""
        status = self._process.poll()
        if status is not None:
            self.stop()
        return status

    def stop(self) -> None:
        """Ask the child to save and stop. Asking twice changes nothing."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()


def follow_parent() -> None:
    """Send SIGTERM to this process when a :class:`ChildProcess`'s parent asks for it or dies; do nothing elsewhere."""
    # Removed from the environment: children of this process have another parent.
    descriptor = os.environ.pop(PARENT, "")
    if descriptor.isdecimal():
        threading.Thread(target=_watch, args=(int(descriptor),), name="follow parent", daemon=True).start()


def _watch(descriptor: int) -> None:
    with suppress(OSError):
        # Blocks until the pipe is closed.
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)


def failure_reason(status: int, log: Path) -> str:
    """Return why a command failed: the signal that ended it, its last error message, or the last line of its log."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (was there enough memory?)" if name == "SIGKILL" else "")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines or [f"exit status {status}"])[-1]


SAVE_SECONDS = 60.0
"""How long a run may take to save its last step when it is asked to stop."""


class Local:
    """Run commands as child processes of this machine, which share its CPU threads."""

    def __init__(self, jobs: int = 1) -> None:
        # A container or a batch system may allow fewer cores than the machine has.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = max(1, cores // jobs)

    def submit(self, arguments: Sequence[str], log: Path) -> ChildProcess:
        """Start a child process."""
        return ChildProcess(arguments, log, self.threads)


class Slurm:
    """Run commands as jobs of SLURM, through submitit.

    Args:
        folder: takes submitit's files.
        options: of submitit's executor, such as ``timeout_min``; ``cluster="local"`` tries it on this machine.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        import submitit

        parameters: dict[str, Any] = {"cluster": "slurm", "slurm_job_name": "shortcut-snn", "cpus_per_task": 1}
        parameters |= options
        if not isinstance(parameters.get("timeout_min"), int):
            raise UsageError("--launcher slurm needs a job's time limit in minutes: add --launch timeout_min=240")
        self.threads = int(parameters["cpus_per_task"])
        try:
            # A new folder for every command: submitit reads pickles, so it must read none but its own.
            self.executor = submitit.AutoExecutor(
                folder.absolute() / secrets.token_hex(4), cluster=parameters.pop("cluster")
            )
            self.executor.update_parameters(**parameters)
        except (NameError, RuntimeError, ValueError, TypeError) as error:
            raise UsageError(f"--launch: submitit refuses it: {one_line(error)[-300:]}") from None

    def submit(self, arguments: Sequence[str], log: Path) -> "SlurmJob":
        """Submit a job."""
        command = RemoteCommand(tuple(arguments), str(log.absolute()), os.getcwd(), self.threads)
        with _one_line_errors():
            return SlurmJob(self.executor.submit(command))


@dataclass
class SlurmJob:
    """A submitted job of SLURM, with the methods of a :class:`ChildProcess`."""

    job: Any

    def poll(self) -> int | None:
        """Return the exit status of its command; None while it is queued or running."""
        with _one_line_errors():
            status: int | None = self.job.result() if self.job.done() else None
        return status

    def stop(self) -> None:
        """Cancel the job, which saves and ends."""
        self.job.cancel(check=False)

    kill = stop


@dataclass
class RemoteCommand:
    """Run a child process on the machine where this object is called."""

    arguments: tuple[str, ...]
    log: str
    folder: str
    threads: int

    def __call__(self) -> int:
        """Return the exit status of the command."""
        self._child = ChildProcess(self.arguments, Path(self.log), self.threads, self.folder)
        try:
            while (status := self._child.poll()) is None:
                time.sleep(0.2)
        except BaseException:
            # Submitit's local executor cancels with KeyboardInterrupt.
            self._save()
            raise
        return status

    def checkpoint(self) -> Any:
        """Save before the job's time is up, and return the command that resumes it; submitit calls this."""
        from submitit.helpers import DelayedSubmission

        if hasattr(self, "_child"):
            self._save()
        return DelayedSubmission(RemoteCommand(self.arguments, self.log, self.folder, self.threads))

    def _save(self) -> None:
        self._child.stop()
        # Bounded: a signal handler may have interrupted poll() in the main thread, which then holds the lock it needs.
        deadline = time.monotonic() + SAVE_SECONDS
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn submitit's errors, which contain a whole log, into a line."""
    from submitit.core.utils import UncompletedJobError

    try:
        yield
    except UncompletedJobError as error:
        raise ValueError(f"SLURM: {one_line(error)[-300:]}") from None


Executor = Local | Slurm
Job = ChildProcess | SlurmJob


def make_executor(options: argparse.Namespace, folder: Path) -> Executor:
    """Return the executor that a command line chooses."""
    at_least_one(options, "jobs")
    if options.launcher == "slurm":
        # A job imports this module to start its run, and does not need torch for that.
        from ..recipes import parse_options

        return Slurm(folder / "jobs", parse_options(options.launch))
    if options.launch:
        raise UsageError(f"--launch {options.launch[0]} needs --launcher slurm")
    return Local(options.jobs)
