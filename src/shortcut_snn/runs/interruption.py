"""Signals: a run that is asked to stop finishes its step, saves and leaves."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# SIGUSR1 is what batch systems are commonly asked to send some time before they kill.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Interrupted(BaseException):
    """The run was asked to stop; what is worth keeping is on disk.

    Of several processes that stop together the first one speaks.
    """

    def __init__(self, number: int, speaks: bool = True) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.speaks = number, speaks

    @property
    def status(self) -> int:
        """The exit status by convention."""
        return 128 + self.number


class Interruption:
    """Notes the first signal while training can save itself; anywhere else, or the second time, raises at once."""

    def __init__(self) -> None:
        self.number = 0
        self.can_save = False
        self._process = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals in a block; outside Python's main thread they stay what they were."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals over, again where Lightning has put handlers of its own around ours."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker of a loader: a key press reaches it too, but its parent decides.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.can_save and not self.number:
            self.number = number
            if number == signal.SIGINT and sys.stderr.isatty():
                # A step can take long, and who hears nothing presses again. Past Python's buffer, which a handler may
                # have found half written.
                os.write(sys.stderr.fileno(), b"\r\x1b[Kstopping after this step; Ctrl-C once more loses it\r\n")
            return
        raise Interrupted(number)

    def agreed(self, trainer: Any) -> int:
        """Return the signal that any process has got, 0 for none: all of them stop after the same step."""
        if trainer.world_size == 1:
            return self.number
        from torch import tensor

        return int(trainer.strategy.reduce(tensor(self.number, device=trainer.strategy.root_device), reduce_op="max"))
