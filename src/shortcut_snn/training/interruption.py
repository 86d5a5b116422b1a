"""Signals: a run that is asked to stop finishes its step, saves a checkpoint and ends."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

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


def install_handler(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Handle :data:`SIGNALS` by a function, and return the previous handlers of those that it handles."""
    # Python allows this in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        return {}
    # nohup ignores SIGHUP; that must stay so.
    numbers = [each for each in SIGNALS if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals by a function, and restore the previous handlers after the block."""
    before = install_handler(handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class Interruption:
    """A flag that a signal handler sets and that training checks after each step.

    While ``can_save`` is False, or on a second signal, the handler raises :class:`Interrupted` at once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.can_save = False
        self._process = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: set the flag, or end the process."""
        if os.getpid() != self._process:
            # Forked data loader workers inherit this handler. Only SIGTERM, by which torch ends them, applies to them.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        ends_at_once = not self.can_save or self.signal
        # Set before raising: C code that calls Python, as a compiler of kernels does, drops the exception.
        self.signal = number
        if ends_at_once:
            raise Interrupted(number)

    def agreed(self, trainer: Any) -> int:
        """Return the signal that any process has received, 0 for none, so that all stop after the same step."""
        if trainer.world_size == 1:
            return self.signal
        signals = torch.tensor(self.signal, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(signals, reduce_op="max"))
