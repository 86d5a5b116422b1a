"""Signals: a run that is asked to stop finishes its step, saves and leaves."""

import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# SIGUSR1 is what batch systems are commonly asked to send some time before they kill; SIGHUP comes when a terminal or a
# connection is closed, but for what was started by nohup.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
HANGUP = getattr(signal, "SIGHUP", 0)
PATIENCE = 20.0
"""So many seconds a signal waits, where the process waits for data, or for others so that no handler runs."""


def _forget() -> None:
    # What a forked process is sent is not for the one that forked it.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


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
        self.waits = False
        """Whether it is between two steps: nothing is lost if it stops there."""
        self._process = os.getpid()
        self._handled_at = -math.inf

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals in a block; outside Python's main thread they stay what they were."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._process = os.getpid()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        ears, mouth = os.pipe()
        os.set_blocking(mouth, False)
        wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._watch, args=(ears,), name="signals", daemon=True)
        watcher.start()
        self.listen()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            os.close(mouth)
            watcher.join()
            os.close(ears)
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals over, again where Lightning has put handlers of its own around ours."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker of a loader: a key press reaches it too, but its parent decides.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._handled_at = time.monotonic()
        if self.can_save and not self.number:
            self.number = number
            if number == signal.SIGINT and sys.stderr.isatty():
                # A step can take long, and who hears nothing presses again. Past Python's buffer, which a handler may
                # have found half written.
                os.write(sys.stderr.fileno(), b"\r\x1b[Kstopping after this step; Ctrl-C once more loses it\r\n")
            return
        raise Interrupted(number)

    def _watch(self, ears: int) -> None:
        """Act where a signal cannot: the main thread is in a call that does not return, or waits for data for ever."""
        heard: tuple[int, float] | None = None
        waits_since = 0.0
        while True:
            watching = heard is not None or self.number != 0
            if select.select([ears], [], [], 0.2 if watching else None)[0]:
                numbers = os.read(ears, 64)
                if not numbers:
                    return
                if ours := [number for number in numbers if number in SIGNALS]:
                    heard = ours[0], time.monotonic()
            now = time.monotonic()
            if heard is not None and self._handled_at >= heard[1] - 1:
                heard, waits_since = None, now
            # In training one call may take long, and steps would be lost.
            elif heard is not None and now - heard[1] > PATIENCE * (6 if self.can_save else 1):
                said = f"interrupted by {signal.Signals(heard[0]).name} while it waited for something that did not come"
                print(f"shortcut-snn: error: {said}", file=sys.stderr, flush=True)
                os._exit(128 + heard[0])
            if not (self.number and self.can_save and self.waits):
                waits_since = now
            elif now - waits_since > PATIENCE:
                waits_since = now
                os.kill(self._process, self.number)

    def agreed(self, trainer: Any) -> int:
        """Return the signal that any process has got, 0 for none: all of them stop after the same step."""
        if trainer.world_size == 1:
            return self.number
        from torch import tensor

        return int(trainer.strategy.reduce(tensor(self.number, device=trainer.strategy.root_device), reduce_op="max"))
