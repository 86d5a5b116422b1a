"""What `fit` does to the process is put back, also where it fails."""

import contextlib
import logging
import random
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from shortcut_snn.training import SIGNALS

from .tiny import run, task

pytestmark = pytest.mark.usefixtures("bare")


class Meddle(pl.Callback):
    """Notes what a run is like from within, draws random numbers, and may fail."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.seen: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen = state()
        random.random(), np.random.rand(), torch.rand(1)
        if self.fails and trainer.global_step == 3:
            raise RuntimeError("failed")


def state() -> dict[str, Any]:
    """What a program has of its process, and would miss."""
    logger = logging.getLogger("lightning.pytorch")
    return {
        "level": logger.level,
        "handlers": list(logger.handlers),
        "warnings": list(warnings.filters),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "hook": threading.excepthook,
    }


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_the_process_as_it_was(tmp_path: Path, fails: bool) -> None:
    def handler(*_: Any) -> None:
        raise AssertionError("no signal was sent")

    meddle, logger = Meddle(fails), logging.getLogger("lightning.pytorch")
    kept = signal.getsignal(signal.SIGTERM), logger.level, torch.get_num_threads()
    try:
        signal.signal(signal.SIGTERM, handler)
        logger.setLevel(logging.INFO)
        torch.set_num_threads(3)
        before = state()
        with pytest.raises(RuntimeError, match="failed") if fails else contextlib.nullcontext():
            run(tmp_path / "run", task(threads=2), callbacks=[meddle])
        after = state()
    finally:
        signal.signal(signal.SIGTERM, kept[0])
        logger.setLevel(kept[1])
        torch.set_num_threads(kept[2])
    assert after == before
    # It was not as it is within.
    differ = {name for name in before if meddle.seen[name] != before[name]}
    assert differ >= {"level", "warnings", "python", "numpy", "torch", "threads", "signals"}


def test_two_runs_are_the_same_whatever_came_before(tmp_path: Path) -> None:
    results = []
    for number in (1, 2):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        run(tmp_path / str(number), task(epochs=1))
        results.append((tmp_path / str(number) / "metrics.csv").read_bytes())
    assert results[0] == results[1]


def test_outside_the_main_thread_signals_are_left_alone(tmp_path: Path) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path / "run", task(epochs=1))))
    before = [signal.getsignal(number) for number in SIGNALS]
    thread.start()
    during = [signal.getsignal(number) for number in SIGNALS]
    thread.join()
    assert results[0]["epochs"] == 1
    assert during == before == [signal.getsignal(number) for number in SIGNALS]
