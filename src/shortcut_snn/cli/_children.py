"""Python child processes that save and stop when the process that started them asks, or dies."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

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
