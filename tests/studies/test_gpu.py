"""What is left for a GPU: done in pieces, each of which goes on with the last."""

import csv
import sys
from pathlib import Path

import pytest

from studies import gpu

TINY = ["network.width=2", "data.batch_size=50", "data.workers=0", "data.augment=[crop]", "training.epochs=3"]
TINY += ["training.threads=1", "training.precision=fp32"]


def test_rows_are_trained_in_pieces(data: Path, tmp_path: Path) -> None:
    def a_piece(minutes: float) -> int:
        command = [str(tmp_path), "--data", str(data), "--parts", "rows", "--networks", "resnet18", "--seeds", "1"]
        command += ["--methods", "evolutionary", "--minutes", str(minutes), "--set", *TINY]
        return gpu.main(command)

    assert a_piece(0) == gpu.MORE
    assert not (tmp_path / "rows.csv").exists()
    pieces = 0
    while a_piece(0.5) == gpu.MORE:
        pieces += 1
        assert pieces < 30
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["network"], row["method"], row["seed"], row["epochs"]) for row in found] == [
        ("resnet18", "evolutionary", "0", "3"),
    ]
    assert all(0 <= float(row["test_last"]) <= 1 for row in found)


def test_a_piece_that_is_over_is_told_to_stop_and_may_save(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    code = f"""
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(saved)!r}).touch(), sys.exit(143)))
print("begun", flush=True)
time.sleep(60)
"""
    with pytest.raises(gpu.TimeIsUp):
        gpu.piece([sys.executable, "-c", code], tmp_path / "log", gpu.time.monotonic() + 5)
    assert saved.exists()
    assert (tmp_path / "log").read_text() == "begun\n"


def test_a_part_that_fails_is_not_done(tmp_path: Path) -> None:
    late = gpu.time.monotonic() + 60
    assert gpu.once("part", ["false"], tmp_path, late) == 1
    assert gpu.once("part", ["true"], tmp_path, late) == 0
    assert gpu.once("part", ["false"], tmp_path, late) == 0


def test_a_run_that_fails_ends_the_work_and_is_named(data: Path, tmp_path: Path, capsys) -> None:
    command = [str(tmp_path), "--data", str(data), "--parts", "rows", "--networks", "resnet17"]
    assert gpu.main(command) == 2
    assert "resnet17, vanilla, seed 0 failed; see" in capsys.readouterr().err
    assert "cifar100-resnet17-t2" in (tmp_path / "rows.log").read_text()
