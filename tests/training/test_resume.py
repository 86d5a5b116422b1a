"""A run that is killed and resumed ends as one that never was."""

import csv
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shortcut_snn.training import folder as folders

from .same import assert_same_run
from .small import options, train

# Sums are rounded in another order with another number of threads.
SETTINGS = {"training__epochs": 4, "training__threads": 1, "data__augment": "[crop]"}


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
    kill_in_mid_epoch(folder, 1, random.Random(0).uniform(0.0, 0.2))
    assert not (folder / "result.json").exists(), "the run was over before it was killed"
    process = start(folder)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    assert_same_run(folder, whole)


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


@pytest.mark.parametrize("name", ["metrics.csv", "curves.png", "environment.json", "notes.txt"])
@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_a_persons_own_files_are_not_written_over(tmp_path, capsys, name, more):
    (tmp_path / name).write_text("my own work")
    assert train(tmp_path, *more, **SETTINGS) == 1
    said = f"{tmp_path} is not empty and holds no run, but {name}; name another folder"
    assert capsys.readouterr().err == f"shortcut-snn: error: {said}\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "my own work"}


def test_what_a_run_leaves_that_is_killed_before_its_recipe_is_written_is_gone_on_with(tmp_path, monkeypatch):
    settings = SETTINGS | {"training__epochs": 1, "method__calibrate": "true"}
    write, begun = folders.write_sealed, {"environment.json", "checksums.json", "surrogates.json"}

    def kill(path, text):
        if path.name == "recipe.yaml":
            raise RuntimeError("killed")
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_sealed", kill)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path, **settings)
    assert {path.name for path in tmp_path.iterdir()} == begun
    # Half of a file, and what a tracker makes before all else.
    for name in (".shortcut-snn-recipe-0123abcd.yaml", "mlflow.db"):
        (tmp_path / name).touch()
    assert train(tmp_path, "--resume", **settings) == 0
