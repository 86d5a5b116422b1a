"""The search with Optuna: it finds the best trial, and a trial that was interrupted resumes."""

import runpy
import signal
import sys
from pathlib import Path

import pytest

import shortcut_snn
from shortcut_snn.training import Interrupted, NumericsError, RunFolder

pytest.importorskip("optuna", reason="Optuna is not installed")

PATH = Path(__file__).parents[2] / "examples" / "optuna_sweep.py"
RECIPE = """
data: {kind: digits, train_limit: 60, test_limit: 30, batch_size: 50}
network: {kind: resnet8, width: 2, time_steps: 1}
"""


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Run the example for some trials of one epoch."""
    (tmp_path / "small.yaml").write_text(RECIPE)

    def run(trials: int) -> None:
        words = ["--config", tmp_path / "small.yaml", "--epochs", 1, "--trials", trials, "--out", tmp_path / "s"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in (PATH, *words)])
        runpy.run_path(str(PATH), run_name="__main__")

    return run


def test_an_interrupted_search_continues_its_trial(search, tmp_path, monkeypatch, capsys) -> None:
    real_train, recipes = shortcut_snn.train, []

    def train(recipe, folder, **options):
        recipes.append(recipe)
        if len(recipes) == 1:
            raise NumericsError("the loss is NaN")
        if len(recipes) == 3:
            raise Interrupted(signal.SIGTERM)
        return real_train(recipe, folder, **options)

    monkeypatch.setattr(shortcut_snn, "train", train)
    with pytest.raises(Interrupted):
        search(4)
    search(4)
    assert recipes[3] == recipes[2], "the interrupted trial keeps its values"
    assert len(recipes) == 5
    runs = {path.name: RunFolder(path) for path in (tmp_path / "s").glob("trial*")}
    assert sorted(runs) == ["trial0001", "trial0002", "trial0004"]
    best = max(runs, key=lambda name: runs[name].read_result()["validation_last"]["accuracy"])
    score = runs[best].read_result()["validation_last"]["accuracy"]
    assert f"best: {score:.4g} with" in capsys.readouterr().out
    # Nothing is left to train.
    search(4)
    assert len(recipes) == 5


def test_a_folder_is_searched_by_one_process(search, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("shortcut_snn.training.folder._LOCK_SECONDS", 0)
    with RunFolder(tmp_path / "s").locked():
        (tmp_path / "s" / "note").touch()
        with pytest.raises(ValueError, match="another process"):
            search(1)
    assert not (tmp_path / "s" / "study.log").exists()
