"""A run that is killed and resumed ends as one that never was."""

import csv
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .small import options, train

# Sums are rounded in another order with another number of threads.
SETTINGS = {"training__epochs": 5, "training__threads": 1, "data__augment": "[crop]"}
SAME = ("metrics.csv", "gradients.csv")


def rows(folder: Path) -> int:
    path = folder / "metrics.csv"
    return len(list(csv.DictReader(path.open()))) if path.is_file() else 0


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shortcut_snn", "train", "--out", str(folder), "--resume"]
    return subprocess.Popen(
        [*command, *options(**SETTINGS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def kill_in_mid_epoch(folder: Path, after: int, delay: float) -> None:
    """Kill -9 a run some time after it has finished ``after`` epochs in all."""
    process = start(folder)
    while rows(folder) < after:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(folder, "--resume", **SETTINGS) == 0
    return folder


def test_killed_run_ends_bit_identical(whole, tmp_path):
    folder = tmp_path / "killed"
    chance = random.Random(0)
    for after in (1, 3):
        kill_in_mid_epoch(folder, after, chance.uniform(0.0, 0.2))
        assert not (folder / "result.json").exists(), "the run was over before it was killed"
    process = start(folder)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("network.safetensors", "best.safetensors"):
        mine, theirs = load_file(folder / name), load_file(whole / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), name
    first = torch.load(folder / "checkpoint.ckpt", weights_only=True)
    second = torch.load(whole / "checkpoint.ckpt", weights_only=True)
    for one, other in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        for key, state in one["state"].items():
            assert all(torch.equal(value, other["state"][key][name]) for name, value in state.items())


def test_finished_run_is_not_run_again(whole, capsys):
    before = (whole / "checkpoint.ckpt").stat().st_mtime_ns
    assert train(whole, "--resume", **SETTINGS) == 0
    assert "finished already" in capsys.readouterr().out
    assert (whole / "checkpoint.ckpt").stat().st_mtime_ns == before


def test_run_is_not_overwritten(whole, capsys):
    before = (whole / "metrics.csv").read_bytes()
    assert train(whole, **SETTINGS) == 1
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert (whole / "metrics.csv").read_bytes() == before


def test_other_recipe_is_refused(whole, capsys):
    assert train(whole, "--resume", **SETTINGS | {"training__epochs": 6}) == 1
    assert "has another recipe" in capsys.readouterr().err
