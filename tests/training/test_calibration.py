"""A calibrated run: the widths are kept, a resumed run has the same, and so has whoever loads its network."""

import json
import shutil
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file

from shortcut_snn.neurons import Triangle
from shortcut_snn.recipes import load_run

from .small import train

WIDTHS = "surrogates.json"
SETTINGS = {"training__epochs": 2, "training__threads": 1, "method__calibrate": "true"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    assert train(folder, **SETTINGS) == 0
    return folder


def test_the_network_that_ships_has_the_widths(run):
    widths = json.loads((run / WIDTHS).read_text())
    assert len(widths) == 6, "7 layers, of which the last keeps its own"
    assert len(set(widths.values())) == 6
    network, _, _ = load_run(run)
    for name, width in widths.items():
        assert network.get_submodule(name).neuron.surrogate == Triangle(1 / width, width)
    assert network.layer3[0].spike2.neuron.surrogate == Triangle()


def test_a_resumed_run_has_them_too_and_ends_the_same(run, tmp_path, monkeypatch):
    """Interrupted after the first epoch; calibrating a second time would be an error."""
    from shortcut_snn.training import callbacks

    folder = tmp_path / "run"
    save = callbacks.SaveRun.on_train_epoch_end

    def stop(self, trainer, module):
        save(self, trainer, module)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SaveRun, "on_train_epoch_end", stop)
        assert train(folder, **SETTINGS) == 1
    assert not (folder / "result.json").exists()
    kept = (folder / WIDTHS).read_text()
    assert kept == (run / WIDTHS).read_text()

    def never(*_):
        raise AssertionError("a resumed run calibrates again")

    monkeypatch.setattr(import_module("shortcut_snn.training.run"), "calibrate_task", never)
    assert train(folder, "--resume", **SETTINGS) == 0
    mine, whole = load_file(folder / "network.safetensors"), load_file(run / "network.safetensors")
    assert all(torch.equal(mine[key], whole[key]) for key in whole)
    assert (folder / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()


def test_without_its_widths_a_run_is_not_resumed(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "result.json").unlink()
    for damage in (lambda: (folder / WIDTHS).write_text('{"layer9": 1.0}'), lambda: (folder / WIDTHS).unlink()):
        damage()
        assert train(folder, "--resume", **SETTINGS) == 1
        assert WIDTHS in capsys.readouterr().err


def test_calibration_changes_what_is_learned(run, tmp_path):
    assert train(tmp_path / "fixed", **SETTINGS | {"method__calibrate": "false"}) == 0
    fixed, other = load_file(tmp_path / "fixed" / "network.safetensors"), load_file(run / "network.safetensors")
    assert not torch.equal(fixed["stem.conv.weight"], other["stem.conv.weight"])
    assert not (tmp_path / "fixed" / WIDTHS).exists()
