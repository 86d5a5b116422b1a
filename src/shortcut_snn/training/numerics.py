"""Numbers that are none, layers that never fire and layers that always do: named as they happen."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

NonFinite = Literal["stop", "skip"]
Silent = Literal["stop", "warn", "ignore"]
PATIENCE = 3
"""A layer that is dead or saturated so many looks in a row stops the run."""


class NumericsError(ValueError):
    """Training has gone wrong in its numbers; the last checkpoint is from before."""


class FiniteSteps(Callback):
    """Looks at loss and gradients before each step of the optimizer, at the price of one norm over the gradients.

    Weights and checkpoints never hold what is not finite. Gradients that several processes have averaged are not
    finite on all of them if they are not on one, so all stop together. In fp16 gradients are left to the scaler of the
    loss, which skips such steps by itself.

    Args:
        action: stop the run, or skip the step.
        tell: takes lines for a person.
    """

    def __init__(self, action: NonFinite = "stop", tell: Callable[[str], None] = print) -> None:
        self.action, self.tell = action, tell
        self._loss: Tensor | None = None

    def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
        """Keep the loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Look, and stop or skip.

        Raises:
            NumericsError: naming layer, step and epoch.
        """
        assert self._loss is not None
        gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
        scaled = trainer.precision == "16-mixed"
        whole = torch.isfinite(self._loss)
        if scaled and trainer.world_size > 1:
            # Nobody goes on where another process stops.
            whole = module.sum_over_processes(whole.float()) == trainer.world_size
        if gradients and not scaled:
            whole = whole & torch.isfinite(torch.nn.utils.get_total_norm(list(gradients.values())))
        if whole:
            return
        where = f"at step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
        if torch.isfinite(self._loss):
            bad = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
            # The backward pass reaches the deepest layers first; a norm can overflow where no gradient has.
            what = f"the gradient of {bad[-1].removeprefix('network.')}" if bad else "the norm of all gradients"
            what = "the loss of another process" if scaled else what
            said = f"{what} is not finite {where}"
        else:
            said = f"the loss is {self._loss.item()} {where}"
        if self.action == "stop":
            raise NumericsError(
                f"{said}; the last checkpoint is from before it. Try a lower optimizer.lr (now "
                f"{module.optimizer_config.lr:g}), or fp32 if this is a half-precision run; train.non_finite=skip "
                "leaves such steps out"
            )
        self.tell(f"{said}: step left out")
        # Without a gradient an optimizer leaves a weight alone, its decay too; the scaler of fp16 has its own way.
        for parameter in () if scaled else module.model.parameters():
            parameter.grad = None


class LivingLayers(Callback):
    """Reads the firing rates that the watch has measured: a layer at 0 is dead, one at 1 saturated.

    Each is named once, at the step where it is first seen, and again if it recovers and fails anew.

    Args:
        rates: returns the firing rate by layer if they were measured in the step that ends, else nothing.
        action: stop the run after ``PATIENCE`` looks in a row, warn only, or do not look.
        tell: takes lines for a person.
    """

    def __init__(
        self, rates: Callable[[], Mapping[str, Tensor]], action: Silent = "stop", tell: Callable[[str], None] = print
    ) -> None:
        self.rates, self.action, self.tell = rates, action, tell
        self.looks: dict[str, int] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look.

        Raises:
            NumericsError: naming layer, step and epoch.
        """
        rates = self.rates() if self.action != "ignore" else {}
        if not rates:
            return
        values = module.sum_over_processes(torch.stack(list(rates.values()))) / trainer.world_size
        found = dict(zip(rates, values.tolist(), strict=True))
        self.looks = {name: self.looks.get(name, 0) + 1 for name, rate in found.items() if rate in (0.0, 1.0)}
        where = f"at step {trainer.global_step - 1} (epoch {trainer.current_epoch + 1})"
        for name, looks in self.looks.items():
            state = "dead: none of its neurons fired" if found[name] == 0 else "saturated: all its neurons fired"
            if looks == 1:
                self.tell(f"layer {name} is {state} {where}")
            if looks == PATIENCE and self.action == "stop":
                raise NumericsError(
                    f"layer {name} is {state} {where}, as {PATIENCE - 1} looks before; the checkpoint is kept. Try "
                    "another optimizer.lr, neuron.threshold or neuron.surrogate.width; with --resume and "
                    "train.silent_layers=warn it goes on"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"looks": self.looks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint left off."""
        self.looks = state["looks"]
