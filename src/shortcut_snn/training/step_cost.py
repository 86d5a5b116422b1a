"""Cost of a training step: seconds and peak memory."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from ..diagnosis import PeakMemory

_MEMORY_STEP = 2
"""The step whose memory is measured: earlier ones compile kernels."""
_MEMORY_EPOCHS = 2
"""Memory is measured again in the second epoch, for networks whose firing settles in the first."""
_GPU_TIMED_EVERY = 50


class StepCost(Callback):
    """Measures the median time of an epoch's steps, and the peak memory of one step in the first two epochs.

    A step is forward, backward and optimizer, without data loading and validation. Memory is counted over what the
    process held before the step: resident on a CPU, allocated on a GPU. Timing on a GPU waits for the device, so only
    one step in fifty is timed there.
    """

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._peak_bytes: int | None = None
        self._memory: PeakMemory | None = None
        self._start: float | None = None

    def row(self) -> dict[str, Any]:
        """Return seconds and bytes of the epoch; None for what was not measured."""
        seconds = round(median(self._seconds), 6) if self._seconds else None
        return {"seconds_per_step": seconds, "peak_bytes_per_step": self._peak_bytes}

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Forget the previous epoch."""
        self._seconds, self._peak_bytes = [], None

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Start measuring time, or memory if it is that step."""
        memory_step = min(_MEMORY_STEP, int(trainer.num_training_batches) - 1)
        if batch_idx == memory_step and trainer.current_epoch < _MEMORY_EPOCHS:
            memory = PeakMemory(module.device.type)
            if memory.available:
                self._memory = memory
                memory.start()
            return
        if module.device.type != "cuda" or batch_idx % _GPU_TIMED_EVERY == memory_step + 1:
            _wait_for(module.device)
            self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record the step's time or memory."""
        if self._memory is not None:
            self._peak_bytes, self._memory = self._memory.stop(), None
        if self._start is not None:
            _wait_for(module.device)
            self._seconds.append(time.perf_counter() - self._start)
            self._start = None

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Stop a measurement of memory, which may run a thread."""
        if self._memory is not None:
            self._memory.stop()
            self._memory = None


def summarise_step_cost(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median over epochs of a step's seconds, and the last peak of memory; None if never measured."""
    seconds = [row["seconds_per_step"] for row in rows if row["seconds_per_step"] is not None]
    peaks = [row["peak_bytes_per_step"] for row in rows if row["peak_bytes_per_step"] is not None]
    return {
        "seconds_per_step": median(seconds) if seconds else None,
        "peak_bytes_per_step": peaks[-1] if peaks else None,
    }


def _wait_for(device: torch.device) -> None:
    # A GPU runs asynchronously; its queue belongs to the step that filled it.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
