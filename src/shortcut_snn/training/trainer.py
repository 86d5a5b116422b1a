"""Lightning's trainer with the options of a run, and the state of the process while it trains."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..random_state import preserve_random_state
from .checkpoint import write_checkpoint
from .options import Training

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others of its run."""
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages and warnings within the block."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # They concern few workers, short epochs, and the folder of a resumed run, all of them intended.
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def seeded(seed: int, threads: int | None = None) -> Iterator[None]:
    """Seed all random number generators and set the number of CPU threads; restore both after the block."""
    threads_before = torch.get_num_threads()
    try:
        with preserve_random_state(seed):
            if threads is not None:
                torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(threads_before)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lets Lightning write checkpoints whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint."""
        write_checkpoint(checkpoint, path)


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
    if trainer.strategy.root_device.type == "cpu":
        _check_cpu(training)
    return trainer


def _check_cpu(training: Training) -> None:
    """Raise an error for options that need a GPU."""
    if training.precision == "fp16":
        # Lightning would silently use bf16 instead.
        raise ValueError("training.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if training.sync_batchnorm and training.processes > 1:
        raise ValueError(
            "training.sync_batchnorm: torch's SyncBatchNorm supports GPUs only; set it to false, or train on GPUs"
        )
