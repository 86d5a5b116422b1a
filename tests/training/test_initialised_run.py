"""An initialised run: its surrogates are kept with the network, and a resumed run has the same."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from shortcut_snn.neurons import Rectangle, Triangle
from shortcut_snn.neurons.surrogate import Scaled
from shortcut_snn.recipes import load_run

from .same import assert_same_run
from .small import interrupt_after_first_epoch, train

SETTINGS = {"training__epochs": 2, "training__threads": 1, "method__initialise": "true"}
SETTINGS |= {"data__train_limit": 120, "data__test_limit": 40}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initialised") / "run"
    assert train(folder, **SETTINGS) == 0
    return folder


def test_the_deployed_network_has_the_surrogates(run: Path) -> None:
    surrogates = json.loads((run / "surrogates.json").read_text())
    assert len(surrogates) == 5
    network, _, _ = load_run(run)
    for name, entries in surrogates.items():
        own = Rectangle(entries["width"]) if "width" in entries else Triangle()
        assert network.get_submodule(name).neuron.surrogate == Scaled(own, entries["factor"])


def test_a_resumed_run_has_them_and_ends_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after_first_epoch(tmp_path / "run", monkeypatch, **SETTINGS)
    assert (tmp_path / "run" / "surrogates.json").read_text() == (run / "surrogates.json").read_text()

    def never(*_: object) -> None:
        raise AssertionError("a resumed run is initialised again")

    monkeypatch.setattr(import_module("shortcut_snn.training.run"), "initialise_task", never)
    assert train(tmp_path / "run", "--resume", **SETTINGS) == 0
    assert_same_run(tmp_path / "run", run)
