"""``fit`` restores what it changes in the process, also if it fails."""

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

from shortcut_snn.training.interruption import SIGNALS

from .tiny import run, task

pytestmark = pytest.mark.usefixtures("bare")


class Observer(pl.Callback):
    """Notes the state of the process during a run, draws random numbers, and may fail."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.state: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.state = process_state()
        random.random(), np.random.rand(), torch.rand(1)
        if self.fails and trainer.global_step == 3:
            raise RuntimeError("failed")


def process_state() -> dict[str, Any]:
    """Return the state of this process."""
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
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "signals": [signal.getsignal(number) for number in SIGNALS],
    }


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_the_process_as_it_was(tmp_path: Path, fails: bool) -> None:
    def handler(*_: Any) -> None:
        raise AssertionError("no signal was sent")

    observer, logger = Observer(fails), logging.getLogger("lightning.pytorch")
    original = signal.getsignal(signal.SIGTERM), logger.level, torch.get_num_threads()
    try:
        signal.signal(signal.SIGTERM, handler)
        logger.setLevel(logging.INFO)
        torch.set_num_threads(3)
        before = process_state()
        with pytest.raises(RuntimeError, match="failed") if fails else contextlib.nullcontext():
            run(tmp_path / "run", task(threads=2), callbacks=[observer])
        after = process_state()
    finally:
        signal.signal(signal.SIGTERM, original[0])
        logger.setLevel(original[1])
        torch.set_num_threads(original[2])
    assert after == before
    differ = {name for name in before if observer.state[name] != before[name]}
    assert differ >= {"level", "warnings", "python", "numpy", "torch", "threads", "signals"}


def test_a_run_depends_on_its_seed_alone_and_leaves_signals_of_another_thread(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    for number in (1, 2):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        thread = threading.Thread(target=run, args=(tmp_path / str(number), task(epochs=1)))
        thread.start()
        during = [signal.getsignal(number) for number in SIGNALS]
        thread.join()
        assert during == before == [signal.getsignal(number) for number in SIGNALS]
    tables = [(tmp_path / name / "metrics.csv").read_bytes() for name in "12"]
    assert tables[0] == tables[1]


def test_gradients_stay_off_after_a_run(tmp_path: Path) -> None:
    with torch.no_grad():
        run(tmp_path / "run", task(epochs=1))
        assert not torch.is_grad_enabled()


def test_two_runs_at_once_in_a_process_are_refused(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    class Second(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    def second() -> None:
        try:
            run(tmp_path / "second", task(epochs=1))
        except ValueError as error:
            errors.append(error)

    run(tmp_path / "first", task(epochs=1), callbacks=[Second()])
    assert "another run trains in this process" in str(errors[0])
    second()
    assert len(errors) == 1
