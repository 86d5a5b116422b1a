"""Lightning's trainer as a run wants it, and what a run does to the process, put back when it ends."""

import logging
import os
import subprocess
import sys
import threading
import time
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
from lightning.pytorch.strategies.launchers import subprocess_script

from ..machine import check_processes
from ..random_state import preserve_random_state
from .checkpoint import WholeCheckpoint
from .training import Training

MEETING = timedelta(minutes=10)
"""So long a process waits for the others of its run."""
GRACE = 20.0
"""So many seconds a process has to end by itself when another of its run has failed."""
PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@contextmanager
def quiet_lightning() -> Iterator[None]:
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
def watched() -> Iterator[None]:
    """Watch the processes that Lightning starts within a block; its own watch kills this process without a word."""
    module: Any = subprocess_script
    before, module._launch_process_observer = module._launch_process_observer, _watch
    try:
        yield
    finally:
        module._launch_process_observer = before


def _watch(processes: list[subprocess.Popen[bytes]]) -> None:
    threading.Thread(target=_until_one_ends, args=(processes,), name="processes of the run", daemon=True).start()


def _until_one_ends(processes: list[subprocess.Popen[bytes]]) -> None:
    while not (failed := [process for process in processes if process.poll()]):
        if all(process.poll() == 0 for process in processes):
            return
        time.sleep(1)
    # Most often what it shared with this process is broken now, which ends it with an error of its own.
    time.sleep(GRACE)
    print(
        f"shortcut-snn: error: a process of this run has ended with status {failed[0].returncode}: look at what it "
        "said last. Start the run again with --resume: it goes on from its last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    for process in processes:
        process.kill()
    os._exit(1)


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
        TooLarge: more devices than this machine can have processes.
        ValueError: devices that are not there, or another number of processes than was asked for.
    """
    check_processes(training.devices, "training.devices", "processes")
    if any(word in training.strategy for word in ("spawn", "fork", "notebook", "xla")):
        raise ValueError(
            f"training.strategy: {training.strategy} starts processes out of this one, which a run does not outlive; "
            "choose ddp, which starts the command anew in each"
        )
    started = os.environ.get("WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" in os.environ and started != str(training.processes):
        raise ValueError(
            f"torchrun has started {started} processes, and training.devices * training.nodes is {training.processes}: "
            "each would train alone; say as many in both"
        )
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
    # What Lightning raises for a strategy that does not go with the rest depends on the strategy.
    except (MisconfigurationException, TypeError, ImportError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"training.accelerator, devices, nodes or strategy: {said}") from None
    if training.processes > 1 and hasattr(trainer.strategy, "_timeout"):
        # Of the first meeting, and of any later one: who is missing is not waited for without end.
        trainer.strategy._timeout = MEETING
    if training.precision == "fp16" and trainer.strategy.root_device.type == "cpu":
        # Lightning would take bf16 in its place.
        raise ValueError("training.precision: fp16 needs a GPU, and this is a CPU; choose bf16 or fp32")
    if trainer.world_size != training.processes:
        raise ValueError(
            f"training.devices * training.nodes is {training.processes} and the number of processes "
            f"{trainer.world_size}: start as many, with a training.strategy that takes them"
        )
    return trainer
