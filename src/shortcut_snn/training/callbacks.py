"""What watches a run: its history, its clock, its checkpoint."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from ..analysis.firing import firing_rates
from ..analysis.gradients import gradient_rms
from ..deploy.weights import save_network
from ..files import write_csv
from .cost import StepCost
from .interruption import Interrupted, Interruption


class Watch(Callback):
    """Firing rates every ``every`` steps and gradient RMS of each layer on the last batch of an epoch."""

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.gradients: dict[str, float] = {}
        self._rates: dict[str, torch.Tensor] = {}
        self._measuring: Any = None

    def taken(self) -> dict[str, torch.Tensor]:
        """Return the firing rate of every layer in the batch that is being trained on, if it was its turn."""
        return self._rates if self._measuring is not None else {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Listen to the spikes of this batch, if it is its turn."""
        if batch_idx % self.every == 0:
            self._measuring = firing_rates(module.model.network)
            self._rates = self._measuring.__enter__()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Read the gradients of the epoch's last batch."""
        if trainer.is_last_batch:
            self.gradients = gradient_rms(module.model.network)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report the mean firing rate over layers."""
        if self._measuring is not None:
            self._measuring.__exit__(None, None, None)
            self._measuring = None
            if self._rates:
                rate = torch.stack(list(self._rates.values())).mean()
                module.training_averages.add({"firing_rate": rate}, 1)


class History(Callback):
    """Every epoch's figures, kept in the checkpoint and written to ``metrics.csv`` and ``gradients.csv``.

    A resumed run rewrites both from the checkpoint, so they end as those of a run that was never interrupted.
    Times are kept apart, in ``timing.csv``, because they are never the same twice.
    """

    def __init__(self, folder: Path, watch: Watch, cost: StepCost, tell: Callable[[str], None] | None = None) -> None:
        self.folder = folder
        self.watch = watch
        self.cost = cost
        self.tell = tell
        self.rows: list[dict[str, Any]] = []
        self.gradients: list[dict[str, Any]] = []
        self.seconds: list[dict[str, Any]] = []
        self.best_accuracy = -1.0
        self.best_epoch = -1
        # Seconds of this epoch before it was interrupted.
        self.spent = 0.0
        self._start = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Go on with the clock of an epoch that was interrupted."""
        self._start = time.perf_counter() - self.spent

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the clock; after the last batch, that is before validation begins."""
        self.spent = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Note the epoch (validation has run by now) and write the files."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()} | module.training_means()
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        names = (
            "train_loss",
            "train_accuracy",
            "train_accuracy_with_branches",
            "validation_loss",
            "validation_accuracy",
            "lambda",
            "firing_rate",
        )
        row |= {name: values[name] for name in names if name in values}
        self.rows.append(row)
        self.gradients.append({"epoch": trainer.current_epoch} | self.watch.gradients)
        self.seconds.append({"epoch": trainer.current_epoch, "seconds": round(self.spent, 3)} | self.cost.row())
        # Without validation data there is nothing to choose by: the last epoch it is.
        accuracy = row.get("validation_accuracy", math.inf)
        if accuracy > self.best_accuracy or accuracy == math.inf:
            self.best_accuracy, self.best_epoch = accuracy, trainer.current_epoch
        if trainer.is_global_zero:
            write_csv(self.folder / "metrics.csv", self.rows)
            write_csv(self.folder / "gradients.csv", self.gradients)
            write_csv(self.folder / "timing.csv", self.seconds)
        if self.tell:
            self.tell(
                f"epoch {row['epoch'] + 1}/{trainer.max_epochs}: loss {row['train_loss']:.4f}, "
                f"accuracy {row['train_accuracy']:.3f}, validation {row.get('validation_accuracy', math.nan):.3f}, "
                f"lambda {row['lambda']:.3f}, firing rate {row['firing_rate']:.3f}, {self.spent:.1f} s"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {
            "rows": self.rows,
            "gradients": self.gradients,
            "seconds": self.seconds,
            "best_accuracy": self.best_accuracy,
            "best_epoch": self.best_epoch,
            "spent": self.spent,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint left off."""
        for name, value in state.items():
            setattr(self, name, value)


class SaveRun(Checkpoint):
    """At the end of each epoch: the best network, if it is that, then ``checkpoint.ckpt``.

    Lightning runs ``Checkpoint`` callbacks last, so the checkpoint holds what the others noted. A kill between the two
    files is harmless, since the resumed epoch writes the same best network again.

    Args:
        folder: of the run.
        history: says which epoch was best.
        about: goes into the network's file.
        interruption: whether the run has been asked to stop: it does so, saved, after the step or, if that was the
            last one, after the epoch.
        every: steps after which there is a checkpoint within an epoch too; None: none.

    """

    def __init__(
        self, folder: Path, history: History, about: dict[str, Any], interruption: Interruption, every: int | None
    ) -> None:
        self.folder = folder
        self.history = history
        self.about = about
        self.interruption = interruption
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """From now on there is something to save."""
        self.interruption.listen()
        self.interruption.can_save = True

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch."""
        signal = self.interruption.agreed(trainer)
        # The end of the epoch saves.
        if trainer.is_last_batch:
            return
        if signal or (self.every and (batch_idx + 1) % self.every == 0):
            self._save(trainer)
        if signal:
            raise Interrupted(signal, trainer.is_global_zero)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Save."""
        if self.history.best_epoch == trainer.current_epoch and trainer.is_global_zero:
            save_network(module.model.network, self.folder / "best.safetensors", self.about)
        self._save(trainer)
        if signal := self.interruption.agreed(trainer):
            raise Interrupted(signal, trainer.is_global_zero)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """What follows can be done again."""
        self.interruption.can_save = False

    def on_test_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Take the signals from Lightning again."""
        self.interruption.listen()

    def _save(self, trainer: pl.Trainer) -> None:
        # Every process takes part in collecting the state; the first one writes.
        trainer.save_checkpoint(self.folder / "checkpoint.ckpt")
