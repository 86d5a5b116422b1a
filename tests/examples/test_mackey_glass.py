"""The example of a task that is not classification: all commands, by one file that the library knows nothing of."""

import csv
import json
import sys
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.training.callbacks import SaveRun

from ..registered import forgetting
from ..training.same import assert_same_run

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "mackey_glass.py"
WORDS = ["--import", str(FILE), "--config", str(ROOT / "examples" / "mackey_glass.yaml")]
WORDS += ["--data.samples", "1000", "--network.width", "32", "--network.depth", "3", "--training.epochs", "6"]
WORDS += ["--data.batch_size", "32", "--optimizer.lr", "0.01"]


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Leave the process as one that has never imported the example."""
    with forgetting():
        yield
    sys.modules.pop("mackey_glass", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mackey") / "run"
    assert main(["train", "--out", str(folder), *WORDS]) == 0
    return folder


def test_the_library_knows_nothing_of_it():
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert "mackey" not in text, path
        assert "forecaster" not in text, path


def test_it_learns_with_branches(run):
    result = json.loads((run / "result.json").read_text())
    assert (result["metric"], result["higher_is_better"], result["fraction"]) == ("rmse", False, False)
    # The mean as a forecast is off by 1.
    assert result["chance"] == 1
    assert result["test_last"]["rmse"] < 0.3
    assert result["stripped_equals_trained"]
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert float(rows[0]["lambda"]) > 0
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) / 2
    assert float(rows[-1]["validation_rmse"]) == pytest.approx(result["validation_last"]["rmse"])


def test_evaluate_says_its_metric(run, capsys):
    rmse = json.loads((run / "result.json").read_text())["test_last"]["rmse"]
    assert main(["evaluate", str(run), "--import", str(FILE)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"test rmse of {run} (last epoch): {rmse:.4g}"
    assert "layer1.2" in said[3]


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_train_batch_end"])
def test_it_resumes_bit_identically(run, tmp_path, monkeypatch, hook):
    """After its first epoch, and in the middle of its second."""
    done, calls = getattr(SaveRun, hook), []

    def kill(self, trainer, *given, **named):
        done(self, trainer, *given, **named)
        calls.append(trainer.global_step)
        if hook == "on_train_epoch_end" or len(calls) == 33:
            raise RuntimeError("killed")

    words = [*WORDS, "--training.checkpoint_every", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, hook, kill)
        with pytest.raises(RuntimeError, match="killed"):
            main(["train", "--out", str(tmp_path / "run"), *words])
    assert calls[-1] in (22, 33)
    assert main(["train", "--out", str(tmp_path / "run"), *words, "--resume"]) == 0
    assert_same_run(tmp_path / "run", run)


def test_methods_are_compared_over_seeds(tmp_path, capsys):
    words = [*WORDS, "--data.samples", "300", "--training.epochs", "1", "--training.threads", "1", "--jobs", "2"]
    command = ["compare", "--out", str(tmp_path), "--methods", "vanilla", "evolutionary", "--seeds", "2", *words]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "rmse" in next(line for line in said.splitlines() if line.startswith("| method"))
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert [(row["variant"], row["n"]) for row in rows] == [("vanilla", "2"), ("evolutionary", "2")]
    runs = list(csv.DictReader((tmp_path / "runs.csv").open()))
    errors = [float(each["test_last.rmse"]) for each in runs]
    assert float(rows[1]["difference"]) == pytest.approx((sum(errors[2:]) - sum(errors[:2])) / 2)
    assert json.loads((tmp_path / "comparison.json").read_text())["higher_is_better"] is False


def test_its_page(run, tmp_path):
    pytest.importorskip("shortcut_snn.cli.report")
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "rmse" in (tmp_path / "page.html").read_text()


def test_an_export_says_what_it_takes(run, capsys):
    assert main(["export", str(run), "--to", "safetensors", "--import", str(FILE)]) == 1
    said = capsys.readouterr().err
    assert "the description of this run's data has no classes, channels, image_size, mean, std, kind: give" in said
    assert "network.safetensors, and shortcut_snn.recipes.load_run(folder) returns it" in said
