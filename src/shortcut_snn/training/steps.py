"""Callbacks that check every step of a run for values that are not finite, and measure its time and memory."""

import time
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.utils import get_total_norm

from .._utils.memory import PeakMemory


class NumericsError(ValueError):
    """A loss, gradient or weight is not finite; the last checkpoint is from before."""


class FiniteSteps(Callback):
    """Stops a run if loss or gradients are not finite before a step of the optimizer, or weights before a checkpoint.

    Gradients that processes have averaged are not finite in all of them if they are not in one, so all stop together.
    In fp16 the loss scaler skips steps with such gradients by itself, so only the loss is checked.
    """

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_index: int) -> None:
        """Keep the batch, in which a loss that is not finite may have its cause."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
        """Keep the loss of the step's last batch; earlier batches are part of the gradients."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Check loss and gradients."""
        gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
        finite = torch.isfinite(self._loss)
        if trainer.precision == "16-mixed":
            # Losses are not averaged over processes: stop in all of them if one must.
            finite = trainer.strategy.reduce(finite.float(), reduce_op="sum") == trainer.world_size
        elif gradients:
            finite = finite & torch.isfinite(get_total_norm(list(gradients.values())))
        if not finite:
            step = f"at step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
            inputs, target = module.prepare(self._batch)
            if isinstance(inputs, Tensor) and not torch.isfinite(inputs).all():
                raise NumericsError(f"the data hold NaN or infinity {step}; remove or repair these, then resume")
            if not module.count_labels(target):
                raise NumericsError(f"no sample of the batch has a label {step}; leave such samples out, then resume")
            raise _error(f"{self._cause(gradients)} {step}")

    def _cause(self, gradients: dict[str, Tensor]) -> str:
        if not torch.isfinite(self._loss):
            return f"the loss is {self._loss.item()}"
        # The backward pass reaches the deepest layers first, so the last parameter is where it began.
        names = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
        # A norm can overflow although every gradient is finite.
        what = f"the gradient of {names[-1].removeprefix('network.')}" if names else "the norm of all gradients"
        return f"{what} is not finite"

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Check the weights before they are saved: a huge learning rate spoils them in a finite step."""
        for name, weights in module.model.named_parameters():
            if not torch.isfinite(weights).all():
                name = name.removeprefix("network.")
                raise _error(f"the weights {name} are not finite after step {trainer.global_step}")

    on_save_checkpoint = on_train_epoch_end  # type: ignore[assignment]


def _error(cause: str) -> NumericsError:
    return NumericsError(
        f"{cause}; the last checkpoint is from before it. Try a lower optimizer.lr, training.clip=1, or fp32 instead "
        "of half precision"
    )


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
        # The first two steps may compile kernels. In some networks the firing settles in the first epoch.
        memory_step = min(2, int(trainer.num_training_batches) - 1)
        if batch_idx == memory_step and trainer.current_epoch < 2:
            memory = PeakMemory(module.device.type)
            if memory.available:
                self._memory = memory
                memory.start()
            return
        if module.device.type != "cuda" or batch_idx % 50 == memory_step + 1:
            wait_for(module.device)
            self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record the step's time or memory."""
        if self._memory is not None:
            self._peak_bytes, self._memory = self._memory.stop(), None
        if self._start is not None:
            wait_for(module.device)
            self._seconds.append(time.perf_counter() - self._start)
            self._start = None


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what is in its queue, which belongs to the step that filled it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
