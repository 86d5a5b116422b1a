"""Lightning's trainer with the options of a run, its progress bar and checkpoint file, and the state of the process."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from .._utils.files import replacing
from .._utils.random_state import preserve_random_state
from .options import Training
from .tables import Metric

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others of its run."""
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class RunProgressBar(TQDMProgressBar):
    """Lightning's bar with the means of loss and metric over the epoch so far."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=False)
        self._drawn = 0.0

    def _should_update(self, current: int, total: int) -> bool:
        # Reading the means makes a GPU wait, so not after every batch.
        if self.is_enabled and (current == total or time.monotonic() - self._drawn > 1):
            self._drawn = time.monotonic()
            return True
        return False

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Name the epoch, and what the first step may wait for."""
        super().on_train_epoch_start(trainer, *args)
        compiling = "" if self._drawn else ", first step: kernels may compile"
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}{compiling}")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Show the progress, at most once a second."""
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}", refresh=False)
        super().on_train_batch_end(trainer, *args)

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        """Return what the bar shows after its time."""
        if not trainer.training:
            return {}
        means = pl_module.train_means.means()
        metric = Metric(pl_module.metric, pl_module.higher_is_better, pl_module.fraction)
        shown = {"loss": f"{means['train_main_loss']:.3g}"} if "train_main_loss" in means else {}
        if f"train_{metric.name}" in means:
            shown[metric.title] = metric.format(means[f"train_{metric.name}"])
        return shown


def has_terminal() -> bool:
    """Return whether standard output, where Lightning draws its progress bar, is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Makes Lightning write checkpoints completely or not at all, so that a kill leaves the previous checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint under a temporary name and rename it."""
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch hides the operating system's error behind one of its archive writer.
                raise (_os_error(error) or error) from error


def _os_error(error: BaseException) -> OSError | None:
    inner = error.__cause__ or error.__context__
    return inner if inner is None or isinstance(inner, OSError) else _os_error(inner)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a run's checkpoint; its tensors stay on disk until they are used."""
    try:
        # The file is a zip archive with a CRC for each entry, so a flipped bit is found.
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise BadZipFile("wrong CRC")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        position(checkpoint)
    except Exception as error:
        # torch's own message recommends weights_only=False, which would run code from the file.
        is_torchs = "weights" in str(error).lower()
        reason = "it is damaged, or holds more than plain data" if is_torchs else f"{error!r:.100}"
        raise ValueError(
            f"{path} is not a checkpoint of a run ({reason}); restore it from a copy, or delete it to start again"
        ) from None
    return dict(checkpoint)


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Return the epoch to resume in (from 0), and the number of its batches that are done."""
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    completed = int(epochs["processed"])
    return completed, int(batches["processed"]) if epochs["started"] > completed else 0


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages and warnings within the block."""
    logger = logging.getLogger("lightning.pytorch")
    with warnings.catch_warnings(), ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        # They concern few workers, short epochs, and the folder of a resumed run, all of them intended.
        warnings.filterwarnings("ignore", module="lightning")
        yield


@contextmanager
def seeded(seed: int, threads: int | None = None) -> Iterator[None]:
    """Seed all random number generators and set the number of CPU threads; restore both after the block."""
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        if threads is not None:
            torch.set_num_threads(threads)
        stack.enter_context(preserve_random_state(seed))
        yield


def make_trainer(
    training: Training, loggers: Sequence[Logger] = (), callbacks: Sequence[Callback] = (), *, checkpoints: bool = False
) -> pl.Trainer:
    """Return Lightning's trainer."""
    if any(word in training.strategy for word in ("spawn", "fork", "notebook", "xla")):
        raise ValueError(
            f"training.strategy: {training.strategy} trains in copies of this process, and the result would be lost; "
            "use ddp"
        )
    try:
        trainer = pl.Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            strategy=training.strategy,
            precision=_PRECISION[training.precision],  # type: ignore[arg-type]
            max_epochs=training.epochs,
            gradient_clip_val=training.clip,
            accumulate_grad_batches=training.accumulate,
            sync_batchnorm=training.sync_batchnorm,
            logger=list(loggers) or False,
            callbacks=list(callbacks),
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            enable_checkpointing=checkpoints,
            num_sanity_val_steps=0,
            # Spikes carry no bits in inference mode, so convolutions would be dense.
            inference_mode=False,
            log_every_n_steps=10,
            use_distributed_sampler=False,
            plugins=[AtomicCheckpointIO()],
        )
    # The type of the error depends on the strategy that does not suit.
    except (MisconfigurationException, TypeError, ImportError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"training.accelerator, devices, nodes or strategy: {reason}") from None
    if training.processes > 1 and hasattr(trainer.strategy, "_timeout"):
        trainer.strategy._timeout = TIMEOUT
    if trainer.world_size != training.processes:
        raise ValueError(
            f"training.devices * training.nodes is {training.processes}, but {trainer.world_size} processes run; start "
            "as many, or change training.strategy"
        )
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and training.precision == "fp16":
        # Lightning would silently use bf16 instead.
        raise ValueError("training.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if on_cpu and training.sync_batchnorm and training.processes > 1:
        raise ValueError(
            "training.sync_batchnorm: torch's SyncBatchNorm supports GPUs only; set it to false, or train on GPUs"
        )
    return trainer
