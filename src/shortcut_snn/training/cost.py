"""What a training step costs: seconds, and peak memory over the process at rest."""

import time
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from ..diagnosis.memory import PeakMemory


class StepCost(Callback):
    """The median time of an epoch's steps, and in the first two epochs the peak memory of one of them.

    A step is forward, backward and optimizer; loading and validation are not in it. Memory is what the step takes over
    the process before it, weights and optimizer there: resident on a CPU, allocated on a GPU. It is of the third step
    (the first compile), again in the second epoch for networks that have settled by then; that step is not timed. On a
    GPU one step of fifty is timed, since the clock has to wait for the device.
    """

    def __init__(self, epochs: int = 2) -> None:
        self.epochs = epochs
        self._seconds: list[float] = []
        self._bytes: int | None = None
        self._memory: PeakMemory | None = None
        self._start: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the epoch's figures: seconds, and bytes or None."""
        seconds = round(median(self._seconds), 6) if self._seconds else None
        return {"seconds_per_step": seconds, "peak_bytes_per_step": self._bytes}

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Begin anew."""
        self._seconds, self._bytes = [], None

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock, or at the step whose turn it is the measurement of memory."""
        turn = min(2, int(trainer.num_training_batches) - 1)
        if batch_idx == turn and trainer.current_epoch < self.epochs:
            memory = PeakMemory(module.device.type)
            if memory.available:
                self._memory = memory
                memory.start()
        if module.device.type == "cuda" and self._memory is None and batch_idx % 50 != turn + 1:
            self._start = None
            return
        _drain(module.device)
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note what the step took."""
        if self._start is None:
            return
        _drain(module.device)
        seconds = time.perf_counter() - self._start
        if self._memory is None:
            self._seconds.append(seconds)
        else:
            self._bytes, self._memory = self._memory.stop(), None

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Stop measuring, which may keep a thread busy."""
        if self._memory is not None:
            self._memory.stop()
            self._memory = None


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median over epochs of a step's seconds, and the last of its peaks; None where there are none."""
    seconds = [row["seconds_per_step"] for row in rows if row.get("seconds_per_step") is not None]
    peaks = [row["peak_bytes_per_step"] for row in rows if row.get("peak_bytes_per_step") is not None]
    return {
        "seconds_per_step": median(seconds) if seconds else None,
        "peak_bytes_per_step": peaks[-1] if peaks else None,
    }


def _drain(device: torch.device) -> None:
    # A GPU works behind the program's back; its queue belongs to the step that filled it.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
