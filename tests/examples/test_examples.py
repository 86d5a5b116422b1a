"""Each example trains a network of another library for a few steps, with and without the method, on real data."""

import csv
import re
import runpy
import sys
from pathlib import Path

import pytest

from research.studies import attach
from shortcut_snn._utils.files import write_csv

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
    for name in ("batches", "command", "method", "spikingjelly_resnet18"):
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


def test_an_example_initialises_a_network_of_another_library(example, capsys, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    example("spikingjelly_resnet34", *SMALL, "--csv", path, "--methods", "initialised")
    assert [row["method"] for row in rows(path)] == ["initialised"]
    assert "surrogates set" in capsys.readouterr().out


def test_an_example_learns_and_resumes(example, capsys, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    words = ["--epochs", "1", "--limit", "24", "--batch-size", "32", "--threads", "1", "--csv", path]
    example("snntorch_convnet", *words)
    assert all(float(row["test_last"]) > 30 for row in rows(path))
    # A second call trains only the run that is missing.
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    example("snntorch_convnet", *words)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed=")]
    assert path.read_text() == text


def test_options(example, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        example("norse_convnet", "--help")
    assert "--seeds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        example("norse_convnet", "--epochs", "0")
    assert "got 0" in capsys.readouterr().err


def test_the_study_pairs_methods_by_seed(tmp_path: Path) -> None:
    values = {("0", "without"): 50, ("1", "without"): 60, ("0", "logit_sum"): 54, ("1", "logit_sum"): 64}
    values |= {("0", "loss_sum"): 40, ("1", "loss_sum"): 70, ("2", "loss_sum"): 99}
    made = [{"seed": s, "method": m, "test_last": v, "test_best": v} for (s, m), v in values.items()]
    write_csv(tmp_path / "snntorch_convnet.csv", made)
    last, best = attach.table(tmp_path, ["snntorch_convnet"]).splitlines()[2:]
    cells = ["55.0 ± 63.5", "59.0 ± 63.5", "55.0 ± 190.6", "4.0 ± 0.0", "0.0 ± 127.1", "2"]
    assert last == f"| snnTorch, tutorial 6, T = 8 | last epoch | {' | '.join(cells)} |"
    assert best == last.replace("last epoch", "best on validation")


def test_neurobench_counts_the_same_operations(example, capsys) -> None:
    pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install neurobench")
    example("neurobench_harness")
    *_, neurobench, here = re.findall(r"\d+", capsys.readouterr().out.splitlines()[-1])
    assert int(neurobench) == int(here) > 0
