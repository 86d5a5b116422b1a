"""Python child processes that save and stop when the process that started them asks, or dies."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARENT = "SHORTCUT_SNN_PARENT_FD"
ERROR = "shortcut-snn: error: "
SAVE_SECONDS = 60.0
"""How long a run may take to save its last step when it is asked to stop."""


class ChildProcess:
    """Run Python with arguments in a child process.

    The child's standard input is a pipe on which nothing is sent. The pipe closes in :meth:`stop`, and also when this
    process dies, even by SIGKILL; :func:`follow_parent` turns that into SIGTERM inside the child.

    The child has a session of its own, so that Ctrl-C in a terminal reaches this process alone. Nothing is imported
    from the current folder; ``PYTHONPATH`` is respected.

    Args:
        arguments: Python's, as in ``["-m", "shortcut_snn", "train"]``.
        log: the file to which the child's output is appended.
        threads: CPU threads of the child.
        folder: the child's working directory; by default this process's.
    """

    def __init__(self, arguments: Sequence[str], log: Path, threads: int = 1, folder: str | None = None) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {PARENT: "0", "OMP_NUM_THREADS": str(threads)},
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


@dataclass
class RemoteCommand:
    """Run a child process on the machine where this object is called.

    Args:
        arguments: Python's.
        log: the file to which the output is appended.
        folder: the working directory.
        threads: CPU threads.
    """

    arguments: tuple[str, ...]
    log: str
    folder: str
    threads: int

    def __call__(self) -> int:
        """Return the exit status of the command.

        Raises:
            FileNotFoundError: this machine does not see the folders.
        """
        log = Path(self.log)
        if not (Path(self.folder).is_dir() and log.parent.is_dir()):
            raise FileNotFoundError(
                f"{platform.node()} does not see {self.folder} and {log.parent}: use a disk that all machines share"
            )
        _wait_for_lock(log.with_suffix(""))
        self._child = ChildProcess(self.arguments, log, self.threads, self.folder)
        try:
            while (status := self._child.poll()) is None:
                time.sleep(0.2)
        except BaseException:
            # Ray and submitit's local executor cancel with KeyboardInterrupt.
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


def _wait_for_lock(folder: Path) -> None:
    """Wait while the process of a lost worker still saves the run in a folder."""
    if not folder.is_dir():
        return
    # Imported here: it takes seconds, and most runs are new.
    from ..training import RunFolder

    deadline = time.monotonic() + SAVE_SECONDS
    while time.monotonic() < deadline:
        try:
            with RunFolder(folder).locked():
                return
        except ValueError:
            time.sleep(0.2)


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
