"""The state of a run from its opening to its result, and the callbacks that record its epochs and save it."""

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EMAWeightAveraging
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from tqdm import tqdm

from .. import __version__
from .._utils.files import write_csv
from ..data import Data
from ..deploy import round_weights
from ..deploy.integer_graph import why_no_integer_form
from ..deploy.safetensors_files import describe_branches, save_network
from ..method import Shortcut
from .folder import RunFolder
from .health import Health
from .interruption import Interrupted, Interruption, handling_signals, install_handler
from .options import Training
from .steps import StepCost
from .tables import Metric
from .task import Task
from .trainer import has_terminal, position, quiet_lightning, read_checkpoint, seeded

_process_is_free = threading.Lock()
"""Held by the run that trains in this process."""


class Run:
    """A run that is opened in its folder, for :func:`fit`. It may start, or with ``resume`` also resume.

    Args:
        entries: the recipe; a resumed run must have the same.
        imports: for each imported file or package: ``name``, and ``sha256`` or ``version``.
        metadata: of the network files, enough to build the network again.
        log: receives lines of text, in the first of several processes only.
    """

    def __init__(
        self,
        folder: str | Path,
        entries: Mapping[str, Any],
        *,
        imports: Sequence[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        resume: bool = False,
        log: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.entries, self.imports, self.metadata = RunFolder(folder), entries, imports, metadata or {}
        # Lines are written above the progress bar, which is drawn again below them.
        self.log = rank_zero_only(tqdm.external_write_mode()(log) if has_terminal() else log)
        self.interruption = Interruption()
        self.is_first_process = getattr(rank_zero_only, "rank", 0) == 0
        # The position at which the run starts or resumes, and the training loader's state there, if it has one.
        self.epoch = self.batches_done = 0
        self.loader_state: list[dict[str, Any]] = []
        self.checkpoint_time = self.folder.checkpoint_time
        self.checkpoint: Path | None = None
        if self.is_first_process:
            self.checkpoint = self.folder.start(entries, resume)
        elif resume and self.folder.checkpoint.is_file():
            # The first process has written files since this one was launched, so only it compares recipes.
            self.checkpoint = self.folder.checkpoint
        self.is_finished = resume and self.folder.is_finished
        if self.is_finished:
            self.log(f"{folder} is finished already")
        if resume and (changed := self.folder.changed_imports(imports)):
            self.log(f"{', '.join(changed)} changed since the run started")

    def begin(self, task: Task, data: Data) -> None:
        """Check that task and data fit the run, and find the position at which it starts or resumes."""
        if task.is_finished:
            raise ValueError("this task is trained and its branches are removed; build another task for a new run")
        if not task.description:
            task.describe(data.description)
        _check_state(task.model.network)
        self.metadata = {"version": __version__, "data": task.description, **self.metadata}
        # Before the first epoch is spent.
        if task.method.weight_bits is not None and (reason := why_no_integer_form(task.model.network)):
            raise ValueError(f"method.weight_bits: {reason}; leave it out")
        self._kept_branches(task, task.model)
        if self.checkpoint is None:
            return
        self.folder.check_data(data.split, data.fingerprint())
        checkpoint = read_checkpoint(self.checkpoint)
        self.epoch, self.batches_done = position(checkpoint)
        self.loader_state = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
        history, best = checkpoint["callbacks"].get("History"), self.folder.network("best")
        if history and history["best_epoch"] >= 0 and not best.is_file():
            raise ValueError(self.folder.lost_best)

    def save_network(self, task: Task, weights: str, model: Shortcut) -> None:
        """Write the network of the ``"last"`` or the ``"best"`` epoch; ``model`` may be an average of its weights."""
        branches, about = self._kept_branches(task, model)
        network, bits = model.network, task.method.weight_bits
        if bits is not None:
            # The weights that training continues with are not rounded.
            network = copy.deepcopy(network)
            round_weights(network, bits)
        save_network(network, self.folder.network(weights), {**self.metadata, **about}, branches)

    def _kept_branches(self, task: Task, model: Shortcut) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        method = task.method.branches
        if method is None or not method.keep:
            return {}, {}
        branches = dict(zip(task.model.taps.names, model.branches, strict=True))
        return branches, describe_branches(branches, method.head, task.model.layout.num_classes)

    @contextmanager
    def process_state(self, training: Training) -> Iterator[None]:
        """Lock the folder and set signal handlers, seeds, threads and Lightning's log level, within the block."""
        if not _process_is_free.acquire(blocking=False):
            raise ValueError("another run trains in this process and would share its random states; use two processes")
        with ExitStack() as stack:
            stack.callback(_process_is_free.release)
            # Lightning leaves gradients on.
            stack.enter_context(torch.enable_grad())
            stack.enter_context(handling_signals(self.interruption.handle))
            stack.enter_context(quiet_lightning())
            stack.enter_context(seeded(training.seed, training.threads))
            if self.is_first_process:
                stack.enter_context(self.folder.locked())
                if self.folder.checkpoint_time != self.checkpoint_time:
                    raise ValueError(
                        f"another process has trained in {self.folder} meanwhile: resume it, or name another folder"
                    )
            yield


def _check_state(network: nn.Module) -> None:
    """Raise an error if the state of a network cannot be saved and loaded, before the first epoch is spent."""
    for name, value in network.state_dict().items():
        is_dense = isinstance(value, Tensor) and value.layout is torch.strided
        if not is_dense or (0 in value.stride() and value.numel() > 1):
            raise ValueError(
                f"the network's state {name!r} cannot be saved: it is not a tensor, or it is sparse or expanded; make "
                "it a dense tensor, or keep it out of state_dict()"
            )


class History(Callback):
    """Records the figures of every epoch, for ``metrics.csv``, ``gradients.csv`` and ``timing.csv``.

    The records are part of the checkpoint, so the tables of a resumed run equal those of an uninterrupted one.
    Times are in a table of their own, since they differ from run to run.
    """

    def __init__(self, health: Health, step_cost: StepCost) -> None:
        self.health, self.step_cost = health, step_cost
        self.rows: list[dict[str, Any]] = []
        self.gradients: list[dict[str, Any]] = []
        self.seconds: list[dict[str, Any]] = []
        self.best_value: float | None = None
        self.best_epoch = -1
        self.summary = ""
        """The last epoch in one line."""
        # Seconds spent in this epoch, also before an interruption.
        self.elapsed = 0.0
        self._start = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Continue the clock of an interrupted epoch."""
        self._start = time.perf_counter() - self.elapsed

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the clock, which so leaves validation out."""
        self.elapsed = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Record the epoch; validation has run."""
        if not (trainer.is_last_batch or trainer.should_stop):
            # Lightning has left validation out.
            raise ValueError(
                "the training loader yielded fewer batches than its len(): correct __len__ of its data set, or leave "
                "drop_last out"
            )
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        logged |= module.train_means.means(trainer.strategy)
        names = [name for part in ("train_", "validation_") for name in logged if name.startswith(part)]
        names += [name for name in ("lambda", "firing_rate") if name in logged]
        epoch = trainer.current_epoch + 1
        row = {"epoch": epoch, "step": trainer.global_step} | {name: logged[name] for name in names}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(row)
        self.gradients.append({"epoch": epoch} | self.health.gradients)
        self.seconds.append({"epoch": epoch, "seconds": round(self.elapsed, 3)} | self.step_cost.row())
        metric = Metric(module.metric, module.higher_is_better, module.fraction)
        value, best = row.get(f"validation_{metric.name}"), self.best_value
        # Without validation data the last epoch counts as the best.
        if value is None or best is None or math.isnan(best) or metric.is_better(value, best):
            self.best_value, self.best_epoch = value, trainer.current_epoch
        self.summary = self._summarise(row, metric, bool(module.model.branches), trainer.max_epochs)

    def write(self, folder: RunFolder) -> None:
        """Write the tables."""
        tables = {"metrics": self.rows, "gradients": self.gradients, "timing": self.seconds, "layers": self.health.rows}
        for name, rows in tables.items():
            if rows:
                write_csv(folder.table(name), rows)

    def _summarise(self, row: dict[str, Any], metric: Metric, branches: bool, epochs: int | None) -> str:
        # The loss of the network's own output, so that methods with and without branches can be compared.
        parts = [f"loss {row.get('train_main_loss', row['train_loss']):.3g}"]
        if metric.name != "loss":
            parts.append(f"{metric.title} {metric.format(row.get(f'train_{metric.name}'))}")
        if f"validation_{metric.name}" in row:
            parts.append(f"validation {metric.format(row[f'validation_{metric.name}'])}")
        if branches:
            parts.append(f"lambda {row['lambda']:.2f}")
        digits = 3 if self.elapsed >= 1 else 2
        return f"epoch {row['epoch']}/{epochs}: {', '.join(parts)}, {self.elapsed:.{digits}g} s"

    _STATE = ("rows", "gradients", "seconds", "best_value", "best_epoch", "elapsed")

    def state_dict(self) -> dict[str, Any]:
        """Return the records."""
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the records."""
        for name in self._STATE:
            setattr(self, name, state[name])


class WeightAverage(EMAWeightAveraging):
    """Lightning's exponential moving average of weights; validated, tested and deployed is the average."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Create the average on the device of training; Lightning would leave it where the module is now."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, module, stage)

    def model(self, task: Any) -> Shortcut:
        """Return the averaged wrapper while training, afterwards the task's own, which then holds the average."""
        average: Any = self._average_model
        model: Shortcut = task.model if average is None else average.module.model
        return model


class SaveRun(Checkpoint):
    """Saves tables, best network and checkpoint after each epoch; the checkpoint also on a signal or ``every`` N steps.

    Lightning runs ``Checkpoint`` callbacks last, so the checkpoint includes what the others recorded. A kill between
    two files does no harm: the resumed epoch writes them again.
    """

    def __init__(self, run: Run, history: History, every: int | None, average: WeightAverage | None) -> None:
        self.run, self.history, self.every, self.average = run, history, every, average

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Handle signals by saving from here on; Lightning has replaced the handlers meanwhile."""
        install_handler(self.run.interruption.handle)
        self.run.interruption.can_save = True

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch if it is time or a signal has arrived."""
        signal = self.run.interruption.agreed(trainer)
        # After the last batch the end of the epoch saves. Gradients accumulated so far would be lost between steps.
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if signal or (self.every and trainer.global_step % self.every == 0):
            self._save_checkpoint(trainer)
        if signal:
            raise Interrupted(signal, trainer.is_global_zero)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Save, then report the epoch."""
        if trainer.is_global_zero:
            # First, since writing would make the folder again.
            self._check_folder()
            self.history.write(self.run.folder)
            if self.history.best_epoch == trainer.current_epoch:
                model = module.model if self.average is None else self.average.model(module)
                self.run.save_network(module, "best", model)
        self._save_checkpoint(trainer)
        self.run.log(self.history.summary)
        if signal := self.run.interruption.agreed(trainer):
            raise Interrupted(signal, trainer.is_global_zero)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Record whether a callback has ended training early."""
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Train no further if training had ended; an epoch that was left within goes on."""
        trainer.should_stop = checkpoint.get("stopped", False) and not self.run.batches_done

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Let signals end the process at once: the test after training can be repeated."""
        self.run.interruption.can_save = False

    def on_test_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Replace Lightning's signal handlers again."""
        install_handler(self.run.interruption.handle)

    def _save_checkpoint(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            self._check_folder()
        # All processes take part in collecting the state; the first one writes.
        trainer.save_checkpoint(self.run.folder.checkpoint)

    def _check_folder(self) -> None:
        folder = self.run.folder
        if not folder.is_run:
            missing = folder.recipe if folder.path.is_dir() else f"the run's folder {folder}"
            raise ValueError(f"{missing} was removed or moved; the run cannot be saved: put it back and resume")
