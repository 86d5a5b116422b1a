"""The speedrun trains on real images with the neurons of both libraries, and resumes."""

import csv
import os
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from shortcut_snn.training import Classification

PATH = Path(__file__).parents[2] / "examples" / "speedrun" / "cifar10.py"
SMALL = ("network.width=8", "training.precision=fp32", "training.epochs=4", "data.batch_size=25")

pytestmark = pytest.mark.filterwarnings("ignore:::lightning")


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Write scikit-learn's digits as colour images of 16x16 pixels."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.kron(images.reshape(-1, 8, 8) * 15, np.ones((2, 2))).astype(np.uint8)
    pixels = np.repeat(pixels[..., None], 3, axis=-1)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x_train=pixels[:600], y_train=labels[:600], x_test=pixels[1700:], y_test=labels[1700:])
    return path


def run(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(word) for word in (PATH, *words)])
    runpy.run_path(str(PATH), run_name="__main__")


def records(folder: Path) -> list[dict[str, str]]:
    with (folder / "records.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_learns_and_resumes(digits: Path, monkeypatch, capsys, tmp_path) -> None:
    words = (digits, "--recipe", "cifar10-cpu", "--out", tmp_path, *SMALL)
    run(monkeypatch, *words)
    (row,) = records(tmp_path)
    assert float(row["accuracy"]) > 0.5
    assert abs(float(row["accuracy_two_views"]) - float(row["accuracy"])) < 0.3
    assert float(row["pflop"]) > 0
    capsys.readouterr()
    run(monkeypatch, *words)
    assert "epoch" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(monkeypatch, *words, "network.width=4", "--seeds", 2)
    assert "network.width" in capsys.readouterr().err
    assert len(records(tmp_path)) == 1


@pytest.mark.parametrize("recipe", ["cifar10-small", "cifar10-cpu-lif"])
def test_it_trains_with_the_neurons_of_spikingjelly(recipe: str, digits: Path, monkeypatch, tmp_path) -> None:
    pytest.importorskip("spikingjelly")
    words = ("--recipe", recipe, "--neurons", "spikingjelly", "--out", tmp_path)
    run(monkeypatch, digits, *words, *SMALL, "training.epochs=1", "data.train_limit=100")
    neuron = yaml.safe_load((tmp_path / "seed0" / "recipe.yaml").read_text())["neuron"]
    assert neuron["kind"].startswith("spikingjelly")
    assert neuron["threshold"] == (0.5 if recipe == "cifar10-small" else 1.0)
    assert float(records(tmp_path)[0]["accuracy"]) > 0


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**20), ("darwin", 2**30)])
def test_peak_memory_is_in_gib_on_every_system(platform: str, unit: int, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert runpy.run_path(str(PATH))["RSS_UNITS"] == unit


def test_a_missing_file_is_named(monkeypatch, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / "none.npz", "--out", tmp_path)
    assert "none.npz" in capsys.readouterr().err


def test_a_neuron_that_spikingjelly_lacks_is_named(digits: Path, monkeypatch, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, digits, "--neurons", "spikingjelly", "--out", tmp_path, "neuron.kind=if")
    assert "spikingjelly_if" in capsys.readouterr().err


def test_an_interrupted_race_says_how_to_resume(digits: Path, monkeypatch, capsys, tmp_path) -> None:
    words = (digits, "--out", tmp_path, *SMALL, "training.epochs=2", "data.train_limit=100")
    monkeypatch.setattr(Classification, "on_train_epoch_end", lambda task: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *words)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM; the same command resumes" in capsys.readouterr().err
    monkeypatch.undo()
    run(monkeypatch, *words)
    assert len(records(tmp_path)) == 1
