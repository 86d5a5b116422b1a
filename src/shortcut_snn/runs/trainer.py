"""Lightning's trainer as a run wants it, and what a run does to the process, put back when it ends."""

import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from .checkpoint import WholeCheckpoint
from .training import Training

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's chatter back within a block."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Known and harmless here: few workers, short epochs, a resumed run's folder that is not empty.
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def seeded(seed: int, threads: int | None = None) -> Iterator[None]:
    """Seed every random number generator, and set the number of threads, within a block."""
    before = random.getstate(), np.random.get_state(), torch.get_num_threads()
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices):
            seed_everything(seed)
            if threads is not None:
                torch.set_num_threads(threads)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_num_threads(before[2])


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's random number generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_trainer(
    training: Training,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    *,
    checkpoints: bool = False,
) -> pl.Trainer:
    """Return Lightning's trainer.

    Args:
        training: how long, where.
        loggers: where figures go.
        callbacks: what watches.
        checkpoints: whether callbacks save.

    Raises:
        ValueError: devices that are not there, or another number of processes than was asked for.
    """
    try:
        trainer = pl.Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            strategy=training.strategy,
            precision=PRECISION[training.precision],  # type: ignore[arg-type]
            max_epochs=training.epochs,
            gradient_clip_val=training.clip,
            accumulate_grad_batches=training.accumulate,
            logger=list(loggers) or False,
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=checkpoints,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            use_distributed_sampler=False,
            plugins=[WholeCheckpoint()],
        )
    except MisconfigurationException as error:
        raise ValueError(f"training.accelerator, devices, nodes or strategy: {error}") from None
    if trainer.world_size != training.processes:
        raise ValueError(
            f"training.devices * training.nodes is {training.processes} and the number of processes "
            f"{trainer.world_size}: start as many, with a training.strategy that takes them"
        )
    return trainer
