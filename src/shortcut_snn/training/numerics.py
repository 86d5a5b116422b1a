"""Numbers that are none: named as they happen, and kept out of weights, statistics and checkpoints."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from .training import NonFinite


class NumericsError(ValueError):
    """Training has gone wrong in its numbers; the last checkpoint is from before."""


class FiniteSteps(Callback):
    """Looks at loss and gradients before each step of the optimizer, at the price of one norm over the gradients.

    Checkpoints never hold what is not finite. Gradients that several processes have averaged are not finite on all of
    them if they are not on one, so all stop together. In fp16 gradients are left to the scaler of the loss, which skips
    such steps by itself. On a GPU the answer is fetched one step later, so that nobody waits for it; it stops the run
    before anything is saved.

    Args:
        action: stop the run, or skip the step; statistics of batch norms are then those from before it.
        tell: takes lines for a person.
        lag: whether the answer is fetched a step later; None for on a GPU that stops.
    """

    def __init__(
        self, action: NonFinite = "stop", tell: Callable[[str], None] = print, lag: bool | None = None
    ) -> None:
        self.action, self.tell, self.lag = action, tell, lag
        self._loss: Tensor | None = None
        self._waiting: tuple[Tensor, Callable[[], str]] | None = None
        self._buffers: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Begin a step, maybe of several batches: keep the statistics of batch norms, which forward passes change."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        self._loss = None
        if self.action == "skip":
            self._buffers = {name: buffer.clone() for name, buffer in module.model.named_buffers()}

    def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
        """Keep the loss, of several batches the sum: it is not finite if one of them is not."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Look, and stop or skip.

        Raises:
            NumericsError: naming layer, step and epoch.
        """
        assert self._loss is not None
        self.check_waiting()
        loss = self._loss
        gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
        scaled = trainer.precision == "16-mixed"
        whole = torch.isfinite(loss)
        if scaled and trainer.world_size > 1:
            # Nobody goes on where another process stops.
            whole = module.sum_over_processes(whole.float()) == trainer.world_size
        if gradients and not scaled:
            whole = whole & torch.isfinite(torch.nn.utils.get_total_norm(list(gradients.values())))
        where = f"at step {trainer.global_step} (epoch {trainer.current_epoch + 1})"

        def said() -> str:
            if torch.isfinite(loss):
                bad = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
                # The backward pass reaches the deepest layers first; a norm can overflow where no gradient has.
                what = f"the gradient of {bad[-1].removeprefix('network.')}" if bad else "the norm of all gradients"
                what = "the loss of another process" if scaled else what
                return f"{what} is not finite {where}"
            return f"the loss is {loss.item()} {where}"

        lags = self.action == "stop" and (loss.device.type == "cuda" if self.lag is None else self.lag)
        if lags:
            self._waiting = whole.to("cpu", non_blocking=True), lambda: f"the loss or a gradient is not finite {where}"
            return
        if whole:
            return
        if self.action == "stop":
            raise _error(said())
        self.tell(f"{said()}: step left out")
        # Without a gradient an optimizer leaves a weight alone, its decay too; the scaler of fp16 has its own way.
        for parameter in () if scaled else module.model.parameters():
            parameter.grad = None
        for name, buffer in module.model.named_buffers():
            if name in self._buffers and self._buffers[name].shape == buffer.shape:
                buffer.copy_(self._buffers[name])

    def check_waiting(self) -> None:
        """Stop if the last step was not finite.

        Raises:
            NumericsError: it was not.
        """
        if self._waiting is None:
            return
        (whole, said), self._waiting = self._waiting, None
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        if not whole:
            raise _error(said())

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Look before the epoch is saved."""
        self.check_waiting()
        self.check_weights(trainer, module)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Look before anything is saved."""
        self.check_waiting()
        self.check_weights(trainer, module)

    def check_weights(self, trainer: pl.Trainer, module: Any) -> None:
        """Stop if the last step itself, as of a huge learning rate, made weights that are no numbers.

        Raises:
            NumericsError: naming the first of them.
        """
        weights = {name: value.detach() for name, value in module.model.named_parameters()}
        if weights and not torch.isfinite(torch.nn.utils.get_total_norm(list(weights.values()))):
            bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
            if bad:
                name = bad[0].removeprefix("network.")
                raise _error(f"the weights {name} are not finite after step {trainer.global_step}")


def _error(said: str) -> NumericsError:
    return NumericsError(
        f"{said}; the last checkpoint is from before it. Try a lower optimizer.lr, training.clip=1, or fp32 if this is "
        "a half-precision run; training.non_finite=skip leaves such steps out"
    )
