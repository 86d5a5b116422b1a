"""Lightning's Trainer: that of a run, with its progress bar and checkpoint file, and what callbacks change in any."""

import functools
import logging
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

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
                # Schedules that compute with NumPy leave its numbers, which are not plain data. Copied weights would
                # lose the versions of their modules.
                plain = tree_map_only(np.generic, np.generic.item, checkpoint)
                torch.save({**plain, "state_dict": checkpoint["state_dict"]}, file)
            except RuntimeError as error:
                # torch hides the operating system's error behind one of its archive writer.
                raise (_os_error(error) or error) from error
            file.flush()
            try:
                torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:
                # torch refuses objects that are no plain data, and names the class of one.
                if (found := re.search(r"GLOBAL (\S+)", str(error))) is None:
                    raise
                raise ValueError(
                    f"no run could resume from a checkpoint with {found[1]}: keep plain values and tensors in "
                    "hyperparameters, and in the states of callbacks and schedules"
                ) from None


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
        is_refusal = "weights" in str(error).lower()
        reason = "it is damaged, or holds more than plain data" if is_refusal else f"{error!r:.100}"
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
        # A run has a Health of its own, and Lightning refuses a second one.
        where = "callbacks" if "callback" in reason else "training.accelerator, devices, nodes or strategy"
        raise ValueError(f"{where}: {reason}") from None
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


def check_callbacks(trainer: pl.Trainer, callback: Callback) -> None:
    """Raise an error for an average of weights that would miss the branches."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for index, other in enumerate(callbacks):
        if isinstance(other, WeightAveraging) and callback in callbacks[index:]:
            name = type(callback).__name__
            raise ValueError(
                f"{type(other).__name__} copies the module before {name} attaches branches: give the Trainer {name} "
                "first"
            )


def remove_from_averages(trainer: pl.Trainer, name: str) -> None:
    """Remove a submodule from the averages of weights that the Trainer keeps after training."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        average: Any = getattr(callback, "_average_model", None)
        if isinstance(callback, WeightAveraging) and average is not None and hasattr(average.module, name):
            delattr(average.module, name)


def count_steps(trainer: pl.Trainer) -> int:
    """Return the number of training steps; Lightning takes one number of accumulated batches for all epochs."""
    total, epochs, batches = trainer.estimated_stepping_batches, trainer.max_epochs or 0, trainer.num_training_batches
    if trainer.limit_train_batches == 0:
        return 0
    if total < 0:
        raise ValueError("the training data have no length: give the Trainer max_steps or limit_train_batches")
    if not math.isfinite(total):
        raise ValueError(
            "lambda and schedules need the number of training steps: give the Trainer max_epochs or max_steps"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler) and math.isfinite(batches) and epochs > 0:
            accumulated = map(callback.get_accumulate_grad_batches, range(epochs))
            total = sum(math.ceil(batches / each) for each in accumulated)
            total = total if trainer.max_steps == -1 else min(total, trainer.max_steps)
    return int(total)


def progress(trainer: pl.Trainer, module: pl.LightningModule, by_epoch: bool = False) -> tuple[int, int]:
    """Return the number of steps that are done and of all steps: optimizer steps, or batches if a module steps itself.

    With ``by_epoch`` the numbers are those of epochs, if the training data have a length.
    """
    total = max(count_steps(trainer), 1)
    if by_epoch and math.isfinite(trainer.num_training_batches):
        if trainer.max_steps == -1:
            return trainer.current_epoch, trainer.max_epochs or 1
        # Training may end with max_steps.
        steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        return trainer.current_epoch, math.ceil(total / max(steps_per_epoch, 1))
    if module.automatic_optimization:
        return trainer.global_step, total
    batches = trainer.fit_loop.epoch_loop.total_batch_idx, total
    if trainer.max_steps == -1:
        return batches
    # The Trainer counts the steps of all optimizers, and the estimate counts one for each batch. Training ends with the
    # steps or with the batches of all epochs.
    steps = trainer.global_step, trainer.max_steps
    return max(steps, batches, key=lambda end: end[0] / end[1]) if total < trainer.max_steps else steps


def add_to_optimizers(optimizers: Sequence[Optimizer], branches: nn.Module, network: nn.Module) -> None:
    """Add parameters of branches that no optimizer has to the group that trains most of the network.

    Groups are compared by parameters with as many axes: biases join biases, and weights join weights.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if not groups:
        raise ValueError("branches need an optimizer that trains them: return one from configure_optimizers()")
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    of_network = {id(parameter) for parameter in network.parameters()}

    def share(group: dict[str, Any], axes: int) -> tuple[int, int]:
        sizes = [(p.dim() == axes, p.numel()) for p in group["params"] if id(p) in of_network]
        return sum(size for is_alike, size in sizes if is_alike), sum(size for _, size in sizes)

    for name, parameter in branches.named_parameters():
        if id(parameter) not in trained:
            # Not a group of its own: schedules of the learning rate know the groups that there are.
            group = max(groups, key=functools.partial(share, axes=parameter.dim()))
            group["params"].append(parameter)
            if "param_names" in group:
                group["param_names"].append(f"shortcut_branches.{name}")


def override(module: nn.Module, name: str, method: Callable[..., Any]) -> Callable[[], None]:
    """Give one module another method, and return a function that restores the original.

    Several callbacks may override the same method; each of them restores the original.
    """
    current = vars(module).get(name)
    original = getattr(current, "_original", current)
    method._original = original  # type: ignore[attr-defined]
    setattr(module, name, method)

    def restore() -> None:
        if original is None:
            vars(module).pop(name, None)
        else:
            setattr(module, name, original)

    return restore
