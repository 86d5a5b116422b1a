"""What a run keeps as it goes: the history of its epochs, its networks, averaged or not, and its checkpoint."""

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EMAWeightAveraging
from torch import nn

from ..files import WriteError
from .checkpoint import SEALED
from .cost import StepCost
from .folder import RunFolder
from .health import Health, from_one
from .interruption import Interrupted, Interruption
from .same import flatten_entries
from .tables import Metric


class History(Callback):
    """Every epoch's figures, kept in the checkpoint and written to ``metrics.csv`` and ``gradients.csv``.

    A resumed run rewrites both from the checkpoint, so they end as those of a run that was never interrupted.
    Times are kept apart, in ``timing.csv``, because they are never the same twice.
    """

    def __init__(self, health: Health, cost: StepCost) -> None:
        self.health = health
        self.cost = cost
        self.line = ""
        """The last epoch in a line for a person."""
        self.rows: list[dict[str, Any]] = []
        self.gradients: list[dict[str, Any]] = []
        self.seconds: list[dict[str, Any]] = []
        self.best_value: float | None = None
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
        """Note the epoch (validation has run by now)."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()} | module.training_means()
        # As people count.
        epoch = trainer.current_epoch + 1
        row: dict[str, Any] = {"epoch": epoch, "step": trainer.global_step}
        names = [name for name in found if name.startswith("train_")]
        names += [name for name in found if name.startswith("validation_")]
        row |= {name: found[name] for name in [*names, "lambda", "firing_rate"] if name in found}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(row)
        self.gradients.append({"epoch": epoch} | self.health.gradients)
        self.seconds.append({"epoch": epoch, "seconds": round(self.spent, 3)} | self.cost.row())
        metric = Metric(module.metric, module.higher_is_better, module.fraction)
        self._choose(row.get(f"validation_{metric.name}"), metric, trainer.current_epoch)
        self.line = self._line(row, metric, bool(module.model.branches), trainer.max_epochs)

    def write(self, folder: RunFolder) -> None:
        """Write the files."""
        folder.write_rows("metrics", self.rows)
        folder.write_rows("gradients", self.gradients)
        folder.write_rows("timing", self.seconds)
        if self.health.rows:
            folder.write_rows("layers", self.health.rows)

    def start_best(self, epoch: int, metric: str) -> None:
        """Take this epoch for the best so far, by its value if it has ended."""
        row = self.rows[-1] if self.rows else {}
        self.best_epoch = epoch
        self.best_value = row.get(f"validation_{metric}") if row.get("epoch") == epoch + 1 else None

    def _choose(self, value: float | None, metric: Metric, epoch: int) -> None:
        # Without validation data there is nothing to choose by: the last epoch it is.
        best = self.best_value
        if value is None or best is None or math.isnan(best) or metric.is_better(value, best):
            self.best_value, self.best_epoch = value, epoch

    def _line(self, row: dict[str, Any], metric: Metric, branches: bool, epochs: int | None) -> str:
        # Of one output, with branches or without, so that methods can be set side by side.
        words = [f"loss {row.get('train_main_loss', row['train_loss']):.3g}"]
        if metric.name != "loss":
            words.append(f"{metric.title} {metric.format(row.get(f'train_{metric.name}'))}")
        if f"validation_{metric.name}" in row:
            words.append(f"validation {metric.format(row[f'validation_{metric.name}'])}")
        words += [f"lambda {row['lambda']:.2f}"] * branches
        return f"epoch {row['epoch']}/{epochs}: {', '.join(words)}, {self.spent:.{3 if self.spent >= 1 else 2}g} s"

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        names = ("rows", "gradients", "seconds", "best_value", "best_epoch", "spent")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint left off.

        Raises:
            ValueError: it says what cannot be.
        """
        kinds = {"rows": list, "gradients": list, "seconds": list, "best_epoch": int, "spent": int | float}
        wrong = [name for name, kind in kinds.items() if not isinstance(state.get(name), kind)]
        rows = [row for name in ("rows", "gradients", "seconds") if name not in wrong for row in state[name]]
        if wrong or "best_value" not in state or not all(isinstance(row, dict) and "epoch" in row for row in rows):
            raise ValueError(f"the history of its epochs is damaged ({', '.join(wrong) or 'rows'})")
        for name in (*kinds, "best_value"):
            setattr(self, name, from_one(state[name]) if kinds.get(name) is list else state[name])


class SameRecipe(Callback):
    """Refuses to train in processes, perhaps on several machines, that were not started alike.

    Args:
        entries: the recipe; what may differ between machines is left out.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        said = sorted((key, str(value)) for key, value in flatten_entries(entries) if key not in _OWN)
        self.number = int(hashlib.sha256(str(said).encode()).hexdigest()[:12], 16)

    def setup(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Compare, before weights are.

        Raises:
            ValueError: another process has another recipe.
        """
        mine = torch.tensor(self.number, device=trainer.strategy.root_device)
        low, high = (int(trainer.strategy.reduce(sign * mine, reduce_op="max")) * sign for sign in (-1, 1))
        if low != high:
            raise ValueError(
                f"the {trainer.world_size} processes of this run were not started with the same recipe; start all of "
                "them again with the same options"
            )


_OWN = {"data.root", "data.cache", "data.workers", "training.threads", "training.keep_freed_memory", "loggers"}


class Average(EMAWeightAveraging):
    """Lightning's callback: validated, tested and shipped are the averaged weights and statistics."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Put the average where the weights will be; Lightning moves these later, and would leave it where they are."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, module, stage)

    def network(self, task: Any) -> nn.Module:
        """Return the averaged network of a task that trains; afterwards the task's own is that."""
        averaged: Any = self._average_model
        found: nn.Module = task.model.network if averaged is None else averaged.module.model.network
        return found


class SaveRun(Checkpoint):
    """At the end of each epoch: tables, the best network, if it is that, ``checkpoint.ckpt``, and then a line.

    Lightning runs ``Checkpoint`` callbacks last, so the checkpoint holds what the others noted. A kill between the
    files is harmless, since the resumed epoch writes the same again. A run whose folder has been moved or removed
    meanwhile goes on in a new one; where nothing can be written, all of it is saved elsewhere before the run ends.

    Args:
        folder: of the run.
        history: says which epoch was best.
        about: goes into the network's file.
        interruption: whether the run has been asked to stop: it does so, saved, after the step or, if that was the
            last one, after the epoch.
        every: steps after which there is a checkpoint within an epoch too; None: none.
        average: holds the averaged weights, if weights are averaged.
        begin: writes anew what a run's folder holds from its beginning.
        tell: takes a line for a person.
    """

    def __init__(
        self,
        folder: RunFolder,
        history: History,
        about: dict[str, Any],
        interruption: Interruption,
        every: int | None,
        average: Average | None,
        begin: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.history = history
        self.about = about
        self.interruption = interruption
        self.every = every
        self.average = average
        self.begin = begin
        self.tell = tell
        self.restored = False
        """Whether all that a checkpoint held has been taken up."""
        self.started = False
        """Whether a step has been made, with what a checkpoint held."""

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """From now on there is something to save."""
        self.restored = True
        self.interruption.listen()
        self.interruption.can_save = True

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """In a step nothing can be saved."""
        self.interruption.waits = False

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch."""
        self._start(trainer)
        signal = self.interruption.agreed(trainer)
        # The end of the epoch saves; between, gradients that have not made a step yet would be lost.
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if signal or (self.every and trainer.global_step % self.every == 0):
            self._kept(trainer, self._save)
        if signal:
            raise Interrupted(signal, trainer.is_global_zero)
        self.interruption.waits = trainer.world_size == 1

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Save, then say so."""
        self._kept(trainer, self._save_epoch)
        self.tell(self.history.line)
        if signal := self.interruption.agreed(trainer):
            raise Interrupted(signal, trainer.is_global_zero)

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Save where the next batch does not come: the last step is over."""
        if self.interruption.waits:
            self.interruption.waits = False
            self._kept(trainer, self._save)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """What follows can be done again."""
        self.interruption.can_save = False

    def on_test_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Take the signals from Lightning again."""
        self.interruption.listen()

    def _start(self, trainer: pl.Trainer) -> None:
        """Write anew what is known of a resumed run, once its checkpoint has been used."""
        if not self.started and trainer.is_global_zero and trainer.ckpt_path is not None:
            self.begin()
        self.started = True

    def _kept(self, trainer: pl.Trainer, save: Callable[[pl.Trainer], None]) -> None:
        """Save in the run's folder, or else somewhere."""
        if trainer.is_global_zero and not self.folder.is_run:
            self._begin_anew(trainer, self.folder.network("best"))
        try:
            save(trainer)
        except WriteError as error:
            if trainer.world_size > 1:
                raise
            said, self.interruption.waits = str(error), False
            best = self.folder.network("best")
            self.folder.move(Path(tempfile.mkdtemp(prefix=f"shortcut-snn-{self.folder.path.name}-")))
            try:
                self._begin_anew(trainer, best)
                save(trainer)
            except OSError:
                shutil.rmtree(self.folder.path, ignore_errors=True)
                raise error from None
            raise ValueError(
                f"{said}; nothing is lost: the run is saved in {self.folder}, go on with --resume --out {self.folder}"
            ) from None

    def _begin_anew(self, trainer: pl.Trainer, best: Path) -> None:
        self.folder.hold()
        self.begin()
        if 0 <= self.history.best_epoch < trainer.current_epoch:
            try:
                shutil.copy(best, self.folder.network("best"))
            except OSError:
                # The network of the best epoch so far was in the folder alone: from now on the best counts.
                module: Any = trainer.lightning_module
                self.history.start_best(trainer.current_epoch, module.metric)
        self.tell(f"the run's folder is gone, or takes no files: the run goes on in {self.folder.path}")

    def _save_epoch(self, trainer: pl.Trainer) -> None:
        module: Any = trainer.lightning_module
        if trainer.is_global_zero:
            self.history.write(self.folder)
            if self.history.best_epoch == trainer.current_epoch:
                network = module.model.network if self.average is None else self.average.network(module)
                self.folder.save_network(network, "best", self.about)
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        # Every process takes part in collecting the state; the first one writes.
        trainer.save_checkpoint(self.folder.checkpoint, storage_options=SEALED)
