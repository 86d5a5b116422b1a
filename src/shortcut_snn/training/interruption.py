"""Signals: a run that is asked to stop finishes its step, saves a checkpoint and ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Batch systems are commonly configured to send SIGUSR1 some time before they kill a job. SIGHUP arrives when a terminal
# or connection closes.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]


class Interrupted(BaseException):
    """A signal asked the run to stop; its checkpoint is on disk.

    It is not an ``Exception``, like ``KeyboardInterrupt``, so that ``except Exception`` does not catch it.

    Args:
        is_global_zero: whether this process reports it; of several processes only the first one does.
    """

    def __init__(self, number: int, is_global_zero: bool = True) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.is_global_zero = number, is_global_zero

    @property
    def status(self) -> int:
        """Return the conventional exit status, 128 + signal."""
        return 128 + self.number


class Interruption:
    """A flag that a signal handler sets and that training checks after each step.

    While ``can_save`` is False, or on a second signal, the handler raises :class:`Interrupted` at once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.can_save = False
        self._process = os.getpid()

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Install the signal handlers, and restore the previous ones after the block."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers; called again after Lightning has wrapped them in its own.

        Python allows this in the main thread only; in other threads signals keep their handlers.
        """
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # nohup ignores SIGHUP; that must stay so.
                if number != getattr(signal, "SIGHUP", 0) or signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # Forked data loader workers inherit this handler. Only SIGTERM, by which torch ends them, applies to them.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if not self.can_save or self.signal:
            raise Interrupted(number)
        self.signal = number

    def agreed(self, trainer: Any) -> int:
        """Return the signal that any process has received, 0 for none, so that all stop after the same step."""
        if trainer.world_size == 1:
            return self.signal
        from torch import tensor

        return int(trainer.strategy.reduce(tensor(self.signal, device=trainer.strategy.root_device), reduce_op="max"))
