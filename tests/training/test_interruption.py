"""A run that is stopped by a signal, or killed, resumes and ends like one that was never interrupted."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from research.studies.kill_runs import kill_repeatedly
from shortcut_snn.training import Interrupted, Task
from shortcut_snn.training.trainer import read_checkpoint

from .same import assert_same_run
from .small import options, train
from .tiny import run, task

pytestmark = pytest.mark.usefixtures("kernels")

# 108 training images: 6 steps an epoch. Sums are rounded differently with another number of threads.
SETTINGS = {
    "training__epochs": 2,
    "training__threads": 1,
    "data__augment": "[crop]",
    "data__train_limit": 120,
    "data__test_limit": 40,
    "data__batch_size": 20,
    "network__width": 2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(folder, **SETTINGS) == 0
    return folder


def signal_at(patch: pytest.MonkeyPatch, number: int, at: int, times: int = 1) -> list[int]:
    """Send this process a signal during a step; return the list of steps, which grows."""
    step, taken = Task.training_step, []

    def training_step(self: Task, batch: object, batch_index: int) -> object:
        taken.append(self.global_step)
        if self.global_step == at and len(taken) > 1:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return step(self, batch, batch_index)

    patch.setattr(Task, "training_step", training_step)
    return taken


class StopInC(pl.Callback):
    """Sends a signal before the first step, in a Python function that C calls, which drops exceptions."""

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM))()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_while_kernels_compile_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="SIGTERM"):
        run(tmp_path / "run", task(), callbacks=[StopInC()])
    assert read_checkpoint(tmp_path / "run" / "checkpoint.ckpt")["global_step"] == 1
    assert run(tmp_path / "run", task(), resume=True)["epochs"] == 2


@pytest.mark.parametrize(("name", "at", "resumed_at"), [("SIGINT", 2, 3), ("SIGTERM", 5, 6), ("SIGHUP", 8, 9)])
def test_a_run_resumes_bit_for_bit_after_a_signal(whole, tmp_path, monkeypatch, capsys, request, name, at, resumed_at):
    folder, number = tmp_path / "run", getattr(signal, name)
    # nohup ignores SIGHUP, and it stays ignored: set a default handler.
    before = signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, before))
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_at(patch, number, at)
        assert train(folder, **SETTINGS) == 128 + number
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"interrupted by {name}" in error
    assert signal.getsignal(number) == handler
    with monkeypatch.context() as patch:
        taken = signal_at(patch, number, -1)
        assert train(folder, "--resume", **SETTINGS) == 0
    assert taken == list(range(resumed_at, 12))
    assert_same_run(folder, whole)


def test_loader_processes_resume_at_the_right_samples(whole, tmp_path, monkeypatch):
    """Workers fetch batches ahead, before Lightning sets the sampler's epoch."""
    given = SETTINGS | {"data__workers": 1}
    with monkeypatch.context() as patch:
        signal_at(patch, signal.SIGTERM, 8)
        assert train(tmp_path / "run", "--resume", **given) == 143
    assert train(tmp_path / "run", "--resume", **given) == 0
    assert_same_run(tmp_path / "run", whole)


def test_checkpoints_within_an_epoch(whole, tmp_path, monkeypatch):
    given = SETTINGS | {"training__checkpoint_every": 2}
    step, lost = Task.training_step, RuntimeError("the power failed")

    def training_step(self: Task, batch: object, batch_index: int) -> object:
        if self.global_step == 9:
            raise lost
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", training_step)
        with pytest.raises(RuntimeError, match="the power failed"):
            train(tmp_path / "run", **given)
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 8)
    assert train(tmp_path / "run", "--resume", **given) == 0
    assert_same_run(tmp_path / "run", whole)


def test_a_second_signal_ends_the_run_at_once(tmp_path, monkeypatch):
    signal_at(monkeypatch, signal.SIGINT, 7, times=2)
    assert train(tmp_path / "run", **SETTINGS) == 130
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6, "the end of the first epoch"


def test_the_command_stops_on_sigterm(tmp_path):
    entries = options(**SETTINGS | {"training__epochs": 500})
    process = subprocess.Popen(
        [sys.executable, "-m", "shortcut_snn", "train", "--out", str(tmp_path / "run"), *entries],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "run" / "checkpoint.ckpt").is_file():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert error.decode().splitlines()[-1].startswith("shortcut-snn: interrupted by SIGTERM; ")
    assert "Traceback" not in error.decode()


def test_a_run_resumes_bit_for_bit_when_killed_while_writing(tmp_path, monkeypatch):
    """research/studies/kill_runs.py kills at more points."""
    monkeypatch.setenv("SHORTCUT_SNN_BACKEND", "eager")
    assert kill_repeatedly(tmp_path / "runs", ["save:2"]) == (1, [])


def test_a_finished_run_is_not_repeated(whole, capsys):
    before = (whole / "checkpoint.ckpt").stat().st_mtime_ns
    assert train(whole, "--resume", **SETTINGS) == 0
    assert "finished already" in capsys.readouterr().out
    assert (whole / "checkpoint.ckpt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("more", "changes", "named"),
    [((), {}, "holds a run already"), (("--resume",), {"training__epochs": 6}, "training.epochs")],
)
def test_a_finished_run_is_not_overwritten(whole, capsys, more, changes, named):
    before = (whole / "metrics.csv").read_bytes()
    assert train(whole, *more, **SETTINGS | changes) == 1
    assert named in capsys.readouterr().err
    assert (whole / "metrics.csv").read_bytes() == before
