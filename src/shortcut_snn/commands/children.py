"""Processes that do not outlive the one that started them."""

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, NoReturn


class Children:
    """Runs commands, from several threads; a block of it that ends by an error or a signal ends them too."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock, self._over = threading.Lock(), False

    def run(self, command: Sequence[str], output: IO[bytes], environment: Mapping[str, str]) -> int:
        """Run a command to its end and return its exit status, below 0 that of a signal."""
        with self._lock:
            if self._over:
                return -signal.SIGTERM
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            self._live.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._live.discard(process)

    @contextmanager
    def block(self) -> Iterator[None]:
        """End what still runs when the block is left by an error, Ctrl-C or SIGTERM."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _leave) if main else None
        try:
            yield
        except BaseException:
            with self._lock:
                self._over = True
                for process in self._live:
                    process.terminate()
            raise
        finally:
            if main:
                signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def said(status: int, lines: Sequence[str]) -> str:
    """Return why a command failed: the signal that ended it, or the last line of what it wrote."""
    if status < 0:
        name: Any = signal.Signals(-status).name
        return f"killed by {name}" + (" (was there enough memory?)" if -status == signal.SIGKILL else "")
    return lines[-1] if lines else f"exit status {status}"
