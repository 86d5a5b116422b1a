"""What a terminal shows while a network trains: one line that is drawn anew, below those that stay."""

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from .tables import Metric, format_duration

EVERY = 0.2
"""Seconds from one drawing to the next: reading the averages makes a GPU wait."""
BAR = 24


class Progress(Callback):
    """How far training is, what it has reached and when it will be over, in a line of any terminal's width.

    Args:
        stream: the terminal.
        tell: takes the lines that stay, see :meth:`tell`.

    Example:
        >>> import sys
        >>> Progress(sys.stdout, print).tell("epoch 1/2: accuracy 31.20 %")
        epoch 1/2: accuracy 31.20 %
    """

    def __init__(self, stream: TextIO, tell: Callable[[str], None]) -> None:
        self.stream, self._tell = stream, tell
        self._shown, self._next = False, 0.0
        # The clock runs from the end of the first step, which compiles.
        self._start, self._done = 0.0, -1

    def tell(self, line: str) -> None:
        """Print a line where the drawn one stands, which the next drawing puts below."""
        self.clear()
        self._tell(line)

    def clear(self) -> None:
        """Take the drawn line away."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    @property
    def columns(self) -> int:
        """How wide the terminal is now."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def draw(self, line: str) -> None:
        """Show a line in place of the one before; what does not fit is left out."""
        # The last column stays free: some terminals go on to the next line after it.
        self._write(f"\r\x1b[K{line[: self.columns - 1]}")
        self._shown, self._next = True, time.monotonic() + EVERY

    def _write(self, text: str) -> None:
        # A terminal that is gone is no reason to stop.
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()

    def _due(self, trainer: pl.Trainer) -> bool:
        return trainer.is_global_zero and time.monotonic() >= self._next

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Say why the first step takes so long."""
        self._done = -1
        if trainer.is_global_zero:
            self.draw(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: the first step compiles kernels ...")

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draw the epoch so far."""
        self._done += 1
        if self._done == 0:
            self._start = time.monotonic()
        if not self._due(trainer):
            return
        # This process's own: asking the others would take part in their work.
        found = {name: value.item() for name, value in module.training_averages.means(lambda sums: sums).items()}
        metric = Metric(module.metric, module.higher_is_better, module.fraction)
        words = [f"loss {found.get('train_main_loss', found.get('train_loss', math.nan)):.3g}"]
        if metric.name != "loss":
            words.append(f"{metric.title} {metric.format(found.get(f'train_{metric.name}'))}")
        words += self._left(trainer, batch_idx)
        share = (batch_idx + 1) / max(trainer.num_training_batches, 1)
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.draw(bar(epoch, share, f"{share:4.0%} {', '.join(words)}", self.columns - 1))

    def _left(self, trainer: pl.Trainer, batch_idx: int) -> list[str]:
        """When the whole run will be over, by the steps since the first, epochs' ends included."""
        steps, epochs = trainer.num_training_batches, trainer.max_epochs
        if self._done < 1 or epochs is None or not math.isfinite(steps):
            return []
        still = steps * epochs - (steps * trainer.current_epoch + batch_idx + 1)
        return [f"{format_duration((time.monotonic() - self._start) / self._done * still)} left"]

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draw how far validation is."""
        if self._due(trainer):
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, validation"
            self._part(epoch, batch_idx + 1, trainer.num_val_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draw how far the test is."""
        if self._due(trainer):
            self._part("test", batch_idx + 1, trainer.num_test_batches)

    def _part(self, name: str, done: int, of: Any) -> None:
        total = sum(of) if isinstance(of, list) else of
        self.draw(bar(name, done / max(total, 1), f"{done}/{total} batches", self.columns - 1))

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Leave nothing behind."""
        self.clear()

    def on_test_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Leave nothing behind."""
        self.clear()

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Make room for what is said of it."""
        self.clear()


def bar(before: str, share: float, after: str, columns: int) -> str:
    """Return a line with a bar in it, as long as there is room for.

    Example:
        >>> bar("epoch 2/6", 0.5, "50 % loss 1.234", 40)
        'epoch 2/6 [======      ] 50 % loss 1.234'
        >>> bar("epoch 2/6", 0.5, "50 % loss 1.234", 28)
        'epoch 2/6 50 % loss 1.234'
    """
    room = min(BAR, columns - len(before) - len(after) - 4)
    drawn = f"[{'=' * round(share * room):{room}}] " if room >= 4 else ""
    return f"{before} {drawn}{after}"
