"""A check of every step for losses and gradients that are not finite."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.utils import get_total_norm


class NumericsError(ValueError):
    """A loss, gradient or weight is not finite; the last checkpoint is from before."""


class FiniteSteps(Callback):
    """Stops a run if loss or gradients are not finite before a step of the optimizer, or weights before a checkpoint.

    The check costs one norm over all gradients. Gradients that processes have averaged are not finite in all of them
    if they are not in one, so all stop together. In fp16 the loss scaler skips steps with such gradients by itself, so
    only the loss is checked.
    """

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_index: int) -> None:
        """Keep the batch, in which a loss that is not finite may have its cause."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
        """Keep the loss of the step's last batch; those before it are part of the gradients."""
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
            inputs, _ = module.prepare(self._batch)
            if isinstance(inputs, Tensor) and not torch.isfinite(inputs).all():
                raise NumericsError(f"the data hold NaN or infinity {step}; remove or mend these samples, then resume")
            raise _error(f"{self._cause(gradients)} {step}")

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
        f"{cause}; the last checkpoint is from before it. Try a lower optimizer.lr, training.clip=1, or fp32 instead "
        "of half precision"
    )
