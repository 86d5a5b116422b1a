"""Python processes that are asked to stop once, are waited for, and do not outlive the one that started them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

# SIGUSR1 is what batch systems are commonly asked to send some time before they kill; SIGHUP comes when a terminal or a
# connection is closed, but for what was started by nohup.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
PARENT = "SHORTCUT_SNN_PARENT_FD"
ERROR = "shortcut-snn: error: "


class Stopped(Exception):
    """A process was "stopped", or "not started", because all of them were asked to stop: nothing has failed."""


class Children:
    """Runs Python processes from several threads; a block of it that is left early asks them to stop.

    Each has a session of its own, so that a terminal's Ctrl-C reaches the parent alone. That passes it on as one
    SIGTERM and waits until all have saved what they have; asked again, it kills them. A process that calls
    :func:`follow_parent` stops in the same way when its parent is killed.

    Args:
        tell: takes a line for a person.

    Example:
        >>> import os
        >>> from shortcut_snn.commands._children import Children
        >>> children = Children()
        >>> with children.block(), open(os.devnull, "wb") as output:
        ...     children.run(["-c", "print('trained')"], output)
        0
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell = tell
        self._live: set[subprocess.Popen[bytes]] = set()
        # Signals are handled in the main thread, whatever it is doing.
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._stopping, self._number = False, 0

    def run(self, arguments: Sequence[str], output: IO[bytes], environment: Mapping[str, str] | None = None) -> int:
        """Run Python with arguments, as in ``["-m", "shortcut_snn", ...]``, to its end; not from the main thread.

        Nothing is imported from the current folder; ``PYTHONPATH`` holds.

        Args:
            arguments: of Python.
            output: takes what the process writes.
            environment: variables; by default this process's.

        Returns:
            The exit status, below 0 that of a signal.

        Raises:
            Stopped: the process was asked to stop, or not started for that.
        """
        variables = dict(os.environ if environment is None else environment) | {PARENT: "0"}
        with self._lock:
            if self._stopping:
                raise Stopped("not started")
            # Its input is a pipe on which nothing is sent: it ends when this process does, however that comes.
            process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
            )
            self._live.add(process)
        try:
            status = process.wait()
        finally:
            with self._ended:
                self._live.discard(process)
                _input(process).close()
                self._ended.notify_all()
        if status and self._stopping:
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
                for process in self._live:
                    process.kill()
                return
            self._stop()
            count = len(self._live)
        self._tell(f"stopping: {count} runs save what they have; once more to kill them")

    def _stop(self) -> None:
        """Ask every process once."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            for process in self._live:
                # Should this process be killed now, it has asked already.
                with suppress(OSError):
                    _input(process).write(b".")
                process.terminate()


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def follow_parent() -> None:
    """Send this process SIGTERM when the one that started it, by :class:`Children`, is gone; else do nothing.

    Example:
        >>> from shortcut_snn.commands._children import follow_parent
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
        >>> from shortcut_snn.commands._children import why
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
