"""A check of every step for losses and gradients that are not finite."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.utils import get_total_norm

from .options import NonFinite


class NumericsError(ValueError):
    """A loss, gradient or weight is not finite, or layers stay silent; the last checkpoint is from before."""


class FiniteSteps(Callback):
    """Checks loss and gradients before each optimizer step, and weights before each checkpoint.

    The check costs one norm over all gradients. Gradients that processes have averaged are not finite in all of them
    if they are not in one, so all stop together. In fp16 the loss scaler skips steps with such gradients by itself, so
    only the loss is checked.

    Args:
        action: stop the run, or skip the step and restore the statistics of batch norms.
        log: receives a line for each skipped step.
    """

    def __init__(self, action: NonFinite = "stop", log: Callable[[str], None] = print) -> None:
        self.action, self.log_line = action, log
        self._loss = torch.zeros(())
        self._buffers: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the statistics of batch norms, which the forward pass changes; a step may have several batches."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        self._loss = torch.zeros((), device=module.device)
        if self.action == "skip":
            self._buffers = {name: buffer.clone() for name, buffer in module.model.named_buffers()}

    def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
        """Add up the losses of a step: the sum is not finite if one of them is not."""
        self._loss = self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Stop the run or skip the step if loss or gradients are not finite.

        Raises:
            NumericsError: the run stops; the message names layer, step and epoch.
        """
        gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
        is_scaled = trainer.precision == "16-mixed"
        finite = torch.isfinite(self._loss)
        if is_scaled and trainer.world_size > 1:
            # Losses are not averaged over processes: stop in all of them if one must.
            finite = trainer.strategy.reduce(finite.float(), reduce_op="sum") == trainer.world_size
        if gradients and not is_scaled:
            finite = finite & torch.isfinite(get_total_norm(list(gradients.values())))
        if finite:
            return
        cause = f"{self._cause(gradients)} at step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
        if self.action == "stop":
            raise _error(cause)
        self.log_line(f"{cause}: step skipped")
        if not is_scaled:
            # Optimizers leave parameters without a gradient alone, weight decay included.
            for parameter in module.model.parameters():
                parameter.grad = None
        for name, buffer in module.model.named_buffers():
            if name in self._buffers and self._buffers[name].shape == buffer.shape:
                buffer.copy_(self._buffers[name])

    def _cause(self, gradients: dict[str, Tensor]) -> str:
        if not torch.isfinite(self._loss):
            return f"the loss is {self._loss.item()}"
        # The backward pass reaches the deepest layers first, so the last parameter is where it began.
        names = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
        # A norm can overflow although every gradient is finite.
        what = f"the gradient of {names[-1].removeprefix('network.')}" if names else "the norm of all gradients"
        return f"{what} is not finite"

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Check the weights before the epoch's network is saved."""
        self._check_weights(trainer, module)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Check the weights before a checkpoint is written: a huge learning rate spoils them in a finite step."""
        self._check_weights(trainer, module)

    def _check_weights(self, trainer: pl.Trainer, module: Any) -> None:
        for name, weights in module.model.named_parameters():
            if not torch.isfinite(weights).all():
                name = name.removeprefix("network.")
                raise _error(f"the weights {name} are not finite after step {trainer.global_step}")


def _error(cause: str) -> NumericsError:
    return NumericsError(
        f"{cause}; the last checkpoint is from before it. Try a lower optimizer.lr, training.clip=1, fp32 instead of "
        "half precision, or training.non_finite=skip"
    )
