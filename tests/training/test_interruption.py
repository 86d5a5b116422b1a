"""A run that is asked to stop saves itself in the middle of an epoch, says so, and goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from shortcut_snn.training import RunFolder, Task

from .same import assert_same_run
from .small import options, train

# 108 training images: 6 steps an epoch.
SETTINGS = {
    "training__epochs": 2,
    "training__threads": 1,
    "data__augment": "[crop]",
    "data__train_limit": 120,
    "data__test_limit": 40,
    "data__batch_size": 20,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(folder, **SETTINGS) == 0
    return folder


def signal_at(patch: pytest.MonkeyPatch, number: int, at: int) -> list[int]:
    """Let this process get a signal within a step; return the list of steps that are taken from now on."""
    step, taken = Task.training_step, []

    def training_step(self: Task, batch: object, batch_index: int) -> object:
        taken.append(self.global_step)
        if self.global_step == at and len(taken) > 1:
            os.kill(os.getpid(), number)
        return step(self, batch, batch_index)

    patch.setattr(Task, "training_step", training_step)
    return taken


@pytest.mark.parametrize(
    ("name", "at", "goes_on"),
    [("SIGINT", 2, 3), ("SIGTERM", 8, 9), ("SIGUSR1", 10, 11), ("SIGTERM", 5, 6), ("SIGHUP", 3, 4)],
)
def test_a_signal_saves_and_the_run_goes_on_there(whole, tmp_path, monkeypatch, capsys, request, name, at, goes_on):
    folder, number = tmp_path / "run", getattr(signal, name)
    # Below nohup a hangup is ignored, and stays so.
    before = signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, before))
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_at(patch, number, at)
        assert train(folder, **SETTINGS) == 128 + number
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"interrupted by {name}" in said
    assert "--resume" in said
    assert signal.getsignal(number) == handler
    with monkeypatch.context() as patch:
        taken = signal_at(patch, number, -1)
        assert train(folder, "--resume", **SETTINGS) == 0
    assert taken == list(range(goes_on, 12))
    assert_same_run(folder, whole)


def test_workers_serve_the_right_samples_after_it(whole, tmp_path, monkeypatch):
    """They fetch ahead, before Lightning tells the sampler its epoch."""
    given = SETTINGS | {"data__workers": 1}
    for at in (5, 8):
        with monkeypatch.context() as patch:
            signal_at(patch, signal.SIGTERM, at)
            assert train(tmp_path / "run", "--resume", **given) == 143
    assert train(tmp_path / "run", "--resume", **given) == 0
    assert_same_run(tmp_path / "run", whole)


def test_checkpoints_within_an_epoch(whole, tmp_path, monkeypatch):
    """What no signal announces costs the steps since the last of them."""
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
    kept = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert (kept["epoch"], kept["global_step"]) == (1, 8)
    assert train(tmp_path / "run", "--resume", **given) == 0
    assert_same_run(tmp_path / "run", whole)


def test_a_folder_has_one_run_at_a_time(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    with RunFolder(folder).locked():
        assert train(folder, "--resume", **SETTINGS) == 1
        assert f"another process is training in {folder}" in capsys.readouterr().err
        assert not list(folder.iterdir())
    with RunFolder(folder).locked():
        pass


def test_a_second_signal_does_not_wait(tmp_path, monkeypatch, capsys):
    step = Task.training_step

    def training_step(self: Task, batch: object, batch_index: int) -> object:
        if self.global_step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_index)

    monkeypatch.setattr(Task, "training_step", training_step)
    assert train(tmp_path / "run", **SETTINGS) == 130
    kept = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert kept["global_step"] == 6, "the whole epoch before"


def test_the_command_itself(tmp_path):
    folder, name = tmp_path / "run", "SIGTERM"
    command = [sys.executable, "-m", "shortcut_snn", "train", "--out", str(folder)]
    process = subprocess.Popen(
        [*command, *options(**SETTINGS | {"training__epochs": 500})], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while not (folder / "metrics.csv").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, name)
    assert said.decode().splitlines()[-1].startswith(f"shortcut-snn: error: interrupted by {name}; ")
    assert "Traceback" not in said.decode()
