"""The speedrun trains on real images with the neurons of both libraries, and resumes."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

PATH = Path(__file__).parents[2] / "examples" / "speedrun" / "cifar10.py"


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Write scikit-learn's digits as colour images of 16x16 pixels."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.kron(images.reshape(-1, 8, 8) * 15, np.ones((2, 2))).astype(np.uint8)
    pixels = np.repeat(pixels[..., None], 3, axis=-1)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x_train=pixels[:1500], y_train=labels[:1500], x_test=pixels[1500:], y_test=labels[1500:])
    return path


def run(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(word) for word in (PATH, *words)])
    runpy.run_path(str(PATH), run_name="__main__")


def record(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


@pytest.mark.parametrize("track", ["integers", "binary"])
def test_it_learns_and_a_second_call_trains_nothing(track: str, digits: Path, monkeypatch, capsys, tmp_path) -> None:
    words = (digits, "--track", track, "--epochs", 4, "--out", tmp_path)
    run(monkeypatch, *words)
    row = record(tmp_path / f"{track}-shortcut_snn-4-epochs.csv")
    assert float(row["accuracy"]) > 0.3
    assert float(row["pflop"]) > 0
    capsys.readouterr()
    run(monkeypatch, *words)
    assert "epoch" not in capsys.readouterr().out


def test_it_trains_with_the_neurons_of_spikingjelly(digits: Path, monkeypatch, tmp_path) -> None:
    run(monkeypatch, digits, "--neurons", "spikingjelly", "--epochs", 1, "--out", tmp_path)
    assert float(record(tmp_path / "integers-spikingjelly-1-epochs.csv")["accuracy"]) > 0


@pytest.mark.parametrize("track", ["integers", "binary"])
def test_neurons_of_both_libraries_agree(track: str) -> None:
    make_neuron = runpy.run_path(str(PATH))["make_neuron"]
    currents = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    spikes, gradients = [], []
    for library in ("shortcut_snn", "spikingjelly"):
        x = currents.clone().requires_grad_()
        spikes.append(make_neuron(track, library)(x))
        gradients.append(torch.autograd.grad((spikes[-1] * currents).sum(), x)[0])
    torch.testing.assert_close(*spikes)
    torch.testing.assert_close(*gradients)


def test_a_missing_file_is_named(monkeypatch, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / "none.npz")
    assert "none.npz does not exist" in capsys.readouterr().err
