"""The examples train networks of other libraries for a few steps, as printed, and the pages quote their code."""

import csv
import re
import runpy
import sys
from pathlib import Path
from textwrap import indent

import pytest

from research.studies import attach
from shortcut_snn._utils.files import write_csv

ROOT = Path(__file__).parents[2]
NAMES = ["spikingjelly_resnet34", "snntorch_convnet"]


@pytest.fixture
def example(monkeypatch):
    """Run an example as ``python examples/NAME.py WORDS`` does, in this process."""

    def run(name: str, *words: object) -> None:
        path = ROOT / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(word) for word in (path, *words)])
        runpy.run_path(str(path), run_name="__main__")

    return run


@pytest.mark.parametrize(
    ("name", "method", "limit"), [(NAMES[0], "initialised", 20), (NAMES[0], "loss_sum", 20), (NAMES[1], "loss_sum", 70)]
)
def test_each_example_trains_with_every_method(name: str, method: str, limit: int, example, capsys) -> None:
    example(name, "--method", method, "--epochs", 1, "--limit", limit)
    out = capsys.readouterr().out
    assert re.search(r"^epoch 0: loss \d+\.\d\d, test accuracy \d+\.\d %$", out, re.MULTILINE)
    assert re.search(r"^firing rate \d+%, energy with memory \d+\.\d uJ an image$", out, re.MULTILINE)
    assert ("surrogates set" in out) == (method == "initialised")
    assert ("branches at blocks" in out) == (method == "loss_sum")


def test_a_measured_initialisation_makes_the_deep_network_of_an_example_learn(example, capsys) -> None:
    accuracies = {}
    for method in ("without", "initialised"):
        example("snntorch_convnet", "--method", method, "--epochs", 1)
        accuracies[method] = float(re.findall(r"accuracy (\S+) %", capsys.readouterr().out)[-1])
    assert accuracies["without"] < 20
    assert accuracies["initialised"] > 50


def test_the_pages_quote_the_examples() -> None:
    """A block tagged ``py`` is not run: it is a part of an example, which these tests run."""
    code = "\n".join((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8") for name in NAMES)
    page = (ROOT / "docs" / "your-loop.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= len(NAMES)
    assert all(block in code or indent(block, "    ") in code for block in blocks)


def test_the_study_trains_each_network_and_resumes(tmp_path: Path, monkeypatch, capsys) -> None:
    words = ["attach.py", "digits", tmp_path, "--seeds", 1, "--epochs", 1, "--limit", 1, "--batch-size", 4]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    attach.main()
    tables = {path.stem: path.read_text() for path in tmp_path.glob("*.csv")}
    assert set(tables) == set(attach.NETWORKS)
    for text in tables.values():
        rows = list(csv.DictReader(text.splitlines()))
        assert [row["method"] for row in rows] == list(attach.METHODS)
        assert all(0 <= float(row[key]) <= 100 for row in rows for key in ("test_last", "test_best", "validation_best"))
    # A second call trains only the run that is missing.
    path = tmp_path / "snntorch_convnet.csv"
    path.write_text("".join(tables["snntorch_convnet"].splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    attach.main()
    assert len([line for line in capsys.readouterr().out.splitlines() if "seed=" in line]) == 1
    assert path.read_text() == tables["snntorch_convnet"]


def test_the_study_pairs_methods_by_seed(tmp_path: Path) -> None:
    values = {("0", "without"): 50, ("1", "without"): 60, ("0", "logit_sum"): 54, ("1", "logit_sum"): 64}
    values |= {("0", "loss_sum"): 40, ("1", "loss_sum"): 70, ("2", "loss_sum"): 99}
    made = [
        {"epochs": 15, "lr": 0.01, "seed": s, "method": m, "test_last": v, "test_best": v}
        for (s, m), v in values.items()
    ]
    # A trial in the same folder, and runs at another rate.
    made += [row | other for other in ({"epochs": 1, "test_last": 9}, {"lr": 0.1, "test_best": 9}) for row in made]
    write_csv(tmp_path / "snntorch_convnet.csv", made)
    table = re.sub(" +", " ", attach.table(tmp_path, ["snntorch_convnet"], {"epochs": "15"}))
    last, best = table.splitlines()[2:]
    cells = ["55.0 ± 63.5", "59.0 ± 63.5", "55.0 ± 190.6", "4.0 ± 0.0", "0.0 ± 127.1", "2"]
    assert last == f"| snnTorch, tutorial 6, T = 8 | last epoch | {' | '.join(cells)} |"
    assert best == last.replace("last epoch", "best on validation")


def test_neurobench_counts_the_same_operations(example, capsys) -> None:
    pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install neurobench")
    example("neurobench_harness")
    *_, neurobench, here = re.findall(r"\d+", capsys.readouterr().out.splitlines()[-1])
    assert int(neurobench) == int(here) > 0
