"""The example of a forecasting task: it learns, and methods are compared by its metric."""

import csv
import json
import sys
from pathlib import Path

import pytest

from shortcut_snn.cli import main

from ..registered import forgetting

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "mackey_glass.py"
WORDS = ["--import", str(FILE), "--config", str(ROOT / "examples" / "mackey_glass.yaml")]
WORDS += ["--data.samples", "1000", "--network.width", "32", "--network.depth", "3", "--training.epochs", "6"]
WORDS += ["--data.batch_size", "32", "--optimizer.lr", "0.01"]


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Remove what the example registers."""
    with forgetting():
        yield
    sys.modules.pop("mackey_glass", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mackey") / "run"
    assert main(["train", "--out", str(folder), *WORDS]) == 0
    return folder


def test_it_learns_with_branches(run):
    result = json.loads((run / "result.json").read_text())
    assert (result["metric"], result["higher_is_better"], result["fraction"]) == ("rmse", False, False)
    assert result["chance"] == 1
    assert result["test_last"]["rmse"] < 0.3
    assert result["stripped_equals_trained"]
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert float(rows[0]["lambda"]) > 0
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) / 2
    assert float(rows[-1]["validation_rmse"]) == pytest.approx(result["validation_last"]["rmse"])


def test_methods_are_compared_by_its_metric(tmp_path, capsys):
    words = [*WORDS, "--data.samples", "300", "--training.epochs", "1", "--training.threads", "1", "--jobs", "2"]
    command = ["compare", "--out", str(tmp_path), "--methods", "vanilla", "evolutionary", "--seeds", "1", *words]
    assert main(command) == 0
    assert "rmse" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| method"))
    rows, runs = (list(csv.DictReader((tmp_path / name).open())) for name in ("comparison.csv", "runs.csv"))
    errors = [float(each["test_last.rmse"]) for each in runs]
    assert [float(row["last"]) for row in rows] == pytest.approx(errors)
    assert float(rows[1]["difference"]) == pytest.approx(errors[1] - errors[0])
    assert json.loads((tmp_path / "comparison.json").read_text())["higher_is_better"] is False


def test_export_names_what_the_data_lacks(run, capsys):
    assert main(["export", str(run), "--to", "safetensors", "--import", str(FILE)]) == 1
    assert "classes, channels, image_size, mean, std, kind" in capsys.readouterr().err
