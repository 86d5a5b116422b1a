"""Each example trains a network of another library for a few steps, with and without the method, on real data."""

import csv
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ..data.events.recordings import ARCHIVE, nmnist, write_npz

ROOT = Path(__file__).parents[2]
SMALL = ["--epochs", "1", "--limit", "1", "--batch-size", "4", "--threads", "1"]
NAMES = ["spikingjelly_resnet18", "snntorch_convnet", "norse_convnet"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def example(monkeypatch):
    """Run an example as ``python examples/NAME.py WORDS`` does, in this process."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def run(name: str, *words: object) -> None:
        path = ROOT / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(word) for word in (path, *words)])
        runpy.run_path(str(path), run_name="__main__")

    yield run
    for name in ("batches", "command", "method"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_each_example_trains_with_every_method(name: str, example, capsys, tmp_path: Path) -> None:
    methods = ["without", "logit_sum", "loss_sum"]
    example(name, *SMALL, "--csv", tmp_path / "runs.csv", "--methods", *methods)
    table = rows(tmp_path / "runs.csv")
    assert [(row["seed"], row["method"]) for row in table] == [("0", method) for method in methods]
    assert all(0 <= float(row[key]) <= 100 for row in table for key in ("test_last", "test_best", "validation_best"))
    last = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in last] == methods
    assert all(f"{float(row['test_last']):.1f} % (1 seeds)" in line for row, line in zip(table, last, strict=True))


def test_an_example_learns(example, tmp_path: Path) -> None:
    example("snntorch_convnet", "--epochs", "1", "--batch-size", "32", "--threads", "1", "--csv", tmp_path / "runs.csv")
    assert all(float(row["test_last"]) > 40 for row in rows(tmp_path / "runs.csv"))


def test_options(example, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        example("norse_convnet", "--help")
    assert "--seeds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        example("norse_convnet", "--epochs", "0")
    assert "got 0" in capsys.readouterr().err


def test_the_study_writes_a_table_and_resumes(tmp_path: Path) -> None:
    data = ARCHIVE if ARCHIVE.is_file() else write_npz(tmp_path / "nmnist.npz", *nmnist(120), {})
    command = [sys.executable, "-W", "ignore", ROOT / "studies" / "attach.py", data, tmp_path, "--seeds", "1"]
    command += ["--networks", "snntorch_convnet", "--epochs", "1", "--limit", "1", "--batch-size", "8"]

    def study() -> list[str]:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("seed=")]

    trained, path = study(), tmp_path / "snntorch_convnet.csv"
    assert len(trained) == 3
    csv_text, table = path.read_text(), (tmp_path / "table.md").read_text()
    assert [line.split(" | ")[:2] for line in table.splitlines()[2:]] == [
        ["| snnTorch, tutorial 6, T = 8", "last epoch"],
        ["| snnTorch, tutorial 6, T = 8", "best on validation"],
    ]
    # A second call trains only the run that is missing.
    path.write_text("".join(csv_text.splitlines(keepends=True)[:-1]))
    assert study() == trained[-1:]
    assert path.read_text() == csv_text
    assert (tmp_path / "table.md").read_text() == table


def test_neurobench_counts_the_same_operations(example, capsys) -> None:
    pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install neurobench")
    example("neurobench_harness")
    *_, neurobench, here = re.findall(r"\d+", capsys.readouterr().out.splitlines()[-1])
    assert int(neurobench) == int(here) > 0
