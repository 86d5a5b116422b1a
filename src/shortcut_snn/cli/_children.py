"""Python processes that are asked to stop once, are waited for, and do not outlive the one that started them."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Protocol

from ..files import write_text

# SIGUSR1 is what batch systems are commonly asked to send some time before they kill; SIGHUP comes when a terminal or a
# connection is closed, but for what was started by nohup.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
PARENT = "SHORTCUT_SNN_PARENT_FD"
ERROR = "shortcut-snn: error: "
PATIENCE = 60.0
"""Seconds for a run to save what it has."""


class Stopped(Exception):
    """A process was "stopped", or "not started", because all of them were asked to stop: nothing has failed."""


class Lost(Exception):
    """What ran a process is gone, and the process with it: it may be started again, elsewhere."""


class Job(Protocol):
    """Something that runs, here or on another machine."""

    def wait(self, seconds: float | None) -> int | None:
        """Return the exit status, below 0 that of a signal; None where it still runs after so many seconds.

        Raises:
            Lost: what ran it is gone.
        """

    def ask(self) -> None:
        """Ask it to save what it has and to stop."""

    def kill(self) -> None:
        """End it."""

    def close(self) -> None:
        """Free what belongs to it; it has ended."""


class Process:
    """Python with arguments, as in ``["-m", "shortcut_snn", ...]``, as a process of this machine.

    Nothing is imported from the current folder; ``PYTHONPATH`` holds.

    Args:
        arguments: of Python.
        output: takes what the process writes.
        environment: variables; by default this process's.
        folder: in which it runs; by default this process's.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        output: IO[bytes],
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        # Its input is a pipe on which nothing is sent: it ends when this process does, however that comes.
        self._process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if environment is None else environment) | {PARENT: "0"},
            cwd=folder,
            start_new_session=True,
        )

    def wait(self, seconds: float | None) -> int | None:
        """Wait for its end; see :class:`Job`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def ask(self) -> None:
        """Send SIGTERM."""
        # Should this process be killed now, it has asked already.
        with suppress(OSError):
            self._input.write(b".")
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def close(self) -> None:
        """Close the pipe."""
        self._input.close()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


@dataclass
class Work:
    """A :class:`Process` on whatever machine this is called on; it is asked to stop when its ticket is gone.

    Whoever may delete the ticket, a file that all machines see, can stop it, wherever it is and whoever started it.

    Args:
        arguments: of Python.
        log: file that takes what the process writes.
        ticket: the file.
        folder: in which it runs.
        threads: of the CPU.
        status: file that takes the exit status; None for none.
    """

    arguments: tuple[str, ...]
    log: str
    ticket: str
    folder: str
    threads: int
    status: str | None = None

    def __call__(self) -> int:
        """Run it and return the exit status.

        Raises:
            FileNotFoundError: this machine does not see the folder.
        """
        if not (os.path.isdir(self.folder) and os.path.isdir(os.path.dirname(self.log))):
            raise FileNotFoundError(
                f"{platform.node()} does not see {self.folder} and {os.path.dirname(self.log)}: runs on several "
                "machines need folders that all of them see, by the same name"
            )
        asked = False
        with open(self.log, "ab") as output:
            environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            self._process = Process(self.arguments, output, environment, self.folder)
        try:
            while (status := self._process.wait(0.5)) is None:
                if not asked and not os.path.exists(self.ticket):
                    asked = True
                    self._process.ask()
        finally:
            self._process.close()
        if self.status is not None:
            write_text(Path(self.status), str(status))
        return status

    def checkpoint(self) -> Any:
        """Let the process save what it has, and return what goes on with it: submitit's word, before time is up."""
        from submitit.helpers import DelayedSubmission

        process = getattr(self, "_process", None)
        # Where time is up before it has been started there is nothing to save.
        if process is not None:
            process.ask()
        # Not without an end: this is called by a signal, which may have met the very lock that waiting takes.
        deadline = time.monotonic() + PATIENCE
        while process is not None and process.wait(0.5) is None and time.monotonic() < deadline:
            pass
        return DelayedSubmission(Work(self.arguments, self.log, self.ticket, self.folder, self.threads, self.status))


class Children:
    """Runs jobs from several threads; a block of it that is left early asks them to stop.

    A process has a session of its own, so that a terminal's Ctrl-C reaches the parent alone. That passes it on as one
    SIGTERM and waits until all have saved what they have; asked again, it kills them. A process that calls
    :func:`follow_parent` stops in the same way when its parent is killed.

    Args:
        tell: takes a line for a person.

    Example:
        >>> import os
        >>> from shortcut_snn.cli._children import Children, Process
        >>> children = Children()
        >>> with children.block(), open(os.devnull, "wb") as output:
        ...     children.run(lambda: Process(["-c", "print('trained')"], output))
        0
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell = tell
        self._live: set[Job] = set()
        # Signals are handled in the main thread, whatever it is doing.
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._stopping, self._number = False, 0

    def run(self, start: Callable[[], Job], enough: Callable[[], bool] | None = None) -> int:
        """Start a job and wait for its end; not from the main thread.

        Args:
            start: starts it.
            enough: is asked every second; once it says yes, the job is asked to stop.

        Returns:
            The exit status, below 0 that of a signal.

        Raises:
            Stopped: the job was asked to stop, or not started for that.
            Lost: what ran it is gone.
        """
        with self._lock:
            if self._stopping:
                raise Stopped("not started")
            job = start()
            self._live.add(job)
        asked = False
        try:
            while (status := job.wait(None if enough is None else 1.0)) is None:
                if enough is not None and not asked and enough():
                    asked = True
                    job.ask()
        except Lost:
            if self._stopping or asked:
                raise Stopped("stopped") from None
            raise
        except BaseException:
            job.ask()
            job.wait(None)
            raise
        finally:
            with self._ended:
                self._live.discard(job)
                job.close()
                self._ended.notify_all()
        if status and (self._stopping or asked):
            raise Stopped("stopped")
        return status

    @contextmanager
    def block(self) -> Iterator[None]:
        """Pass signals on to what runs in the block, and wait for it.

        Raises:
            KeyboardInterrupt: Ctrl-C asked to stop; raised when all have.
            SystemExit: another signal did.
        """
        main = threading.current_thread() is threading.main_thread()
        ours = [each for each in SIGNALS if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in ours} if main else {}
        try:
            try:
                yield
            except BaseException as error:
                self._stop()
                if not (isinstance(error, Stopped) and self._number):
                    raise
            finally:
                with self._ended:
                    self._ended.wait_for(lambda: not self._live)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt from None
        if self._number:
            raise SystemExit(128 + self._number) from None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self._number = self._number, self._number or number
        with self._lock:
            if again:
                for job in self._live:
                    job.kill()
                return
            self._stop()
            count = len(self._live)
        self._tell(f"stopping: {count} runs save what they have; once more to kill them")

    def _stop(self) -> None:
        """Ask every job once."""
        with self._lock:
            if not self._stopping:
                self._stopping = True
                for job in self._live:
                    job.ask()


def follow_parent() -> None:
    """Send this process SIGTERM when the one that started it, by :class:`Children`, is gone; else do nothing.

    Example:
        >>> from shortcut_snn.cli._children import follow_parent
        >>> follow_parent()  # started by hand: there is nobody to follow
    """
    # Processes of its own have another parent.
    descriptor = os.environ.pop(PARENT, "")
    if descriptor.isdecimal():
        threading.Thread(target=_watch, args=(int(descriptor),), name="follow parent", daemon=True).start()


def _watch(descriptor: int) -> None:
    # A parent that asks by itself says so; a dead one says nothing.
    with suppress(OSError):
        if not os.read(descriptor, 1):
            os.kill(os.getpid(), signal.SIGTERM)


def why(status: int, lines: Sequence[str]) -> str:
    """Return why a command failed: the signal that ended it, its last error, or the last line of what it wrote.

    Example:
        >>> from shortcut_snn.cli._children import why
        >>> why(1, ["epoch 1/9", "shortcut-snn: error: the loss is NaN", "epoch 2/9"])
        'the loss is NaN'
        >>> why(-9, ["epoch 1/9"])
        'killed by SIGKILL (was there enough memory?)'
    """
    if status < 0:
        name: Any = signal.Signals(-status).name
        return f"killed by {name}" + (" (was there enough memory?)" if -status == signal.SIGKILL else "")
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or list(lines) or [f"exit status {status}"])[-1]
