"""``shortcut-snn export`` on trained runs: what it prints, what it leaves, what it refuses."""

import json
import re
import shutil
import sys
from pathlib import Path

import nir
import numpy as np
import onnxruntime
import pytest
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir

from shortcut_snn.cli import main
from shortcut_snn.data import load as load_data
from shortcut_snn.deploy import card, load
from shortcut_snn.deploy.nir_graph import DT
from shortcut_snn.deploy.prepare import Prepare
from shortcut_snn.training import recipe_io
from shortcut_snn.training.evaluate import evaluate

from ..data.events.recordings import nmnist, write_npz
from ..training.small import train

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on real digits, finished."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert train(folder) == 0
    return folder


@pytest.fixture(scope="module")
def event_run(tmp_path_factory):
    """A run on recordings of N-MNIST, real ones if they are there."""
    samples, labels = nmnist(80)
    folder = tmp_path_factory.mktemp("recordings")
    archive = write_npz(folder / "set.npz", samples, labels, {"is_test": np.arange(80) >= 60})
    changes = {
        "data__name": "nmnist_npz",
        "data__root": archive,
        "data__events__size": 12,
        "data__events__cache": folder / "cache",
        "data__batch_size": 20,
        "network__time_steps": 3,
        "train__epochs": 1,
    }
    assert train(folder / "run", **changes) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Every format of the run on digits, in one folder."""
    folder = tmp_path_factory.mktemp("exported") / "digits-resnet20"
    for arguments in (["safetensors"], ["nir"], ["onnx"], ["torch-export", "--streaming"]):
        command = ["export", str(run), "--out", str(folder), "--images", "60", "--name", folder.name, "--to"]
        assert main([*command, *arguments]) == 0
    return folder


def images_of(run):
    recipe = recipe_io.read(run / "recipe.yaml")
    return load_data(recipe.data, recipe.network.time_steps).test


def test_it_says_that_all_agrees(run, tmp_path, capsys):
    assert main(["export", str(run), "--to", "safetensors", "--out", str(tmp_path), "--images", "30"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"30 of 30 predictions agree; largest difference of the logits \S+ \(the largest logit is", said)
    assert "card.json and README.md" in said
    assert {path.name for path in tmp_path.iterdir()} == {"network.safetensors", "card.json", "README.md"}


def test_it_has_the_accuracy_of_the_run(run, exported, capsys):
    result = json.loads((run / "result.json").read_text())
    test = images_of(run)
    images, labels = test.fetch(np.arange(len(test))), test.labels
    accuracy = (load(exported).predict(images) == labels).float().mean().item()
    assert accuracy == pytest.approx(result["test_accuracy_last"], abs=0.011)
    assert evaluate(run) == pytest.approx(result["test_accuracy_last"], abs=1e-6)
    # A run's own file does too, and bfloat16 costs next to nothing.
    for network in (load(run), load(exported, precision="bfloat16")):
        accuracy = (network.predict(images) == labels).float().mean().item()
        assert accuracy == pytest.approx(result["test_accuracy_last"], abs=0.05)


def test_files_run_without_us(run, exported):
    images = images_of(run).fetch(np.arange(20))
    expected = load(run).logits(images)
    session = onnxruntime.InferenceSession(exported / "network.onnx")
    assert np.allclose(session.run(["logits"], {"images": images.numpy()})[0], expected, atol=1e-5)
    about = load(run).about
    frames, state, total = Prepare(about)(images), None, 0
    module = import_from_nir(nir.read(exported / "network.nir"), dt=DT)
    with torch.no_grad():
        for _ in range(about.time_steps):
            logits, state = module(frames, state)
            total = total + logits
    assert torch.allclose(total / about.time_steps, expected, atol=1e-5)


def test_the_card(run, exported):
    read = card(exported)
    result = json.loads((run / "result.json").read_text())
    assert read.name == "digits-resnet20"
    assert read.accuracy["test"] == result["test_accuracy_last"]
    assert read.data["samples"] == {"train": 270, "validation": 30, "test": 100}
    assert read.recipe["network"]["name"] == "resnet20"
    assert set(read.files.values()) == {path.name for path in exported.glob("network*")}
    text = (exported / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: shortcut-snn\n")
    assert f"| test | {100 * result['test_accuracy_last']:.2f} % |" in text
    assert read.energy is not None
    assert read.energy["an image, pJ (45 nm)"] == result["energy_pj"]
    assert f"- an image, pJ (45 nm): {result['energy_pj']:.4g}" in text


def test_a_card_speaks_of_one_network(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.copy(run / "network.safetensors", tmp_path / "run" / "best.safetensors")
    command = ["export", str(tmp_path / "run"), "--images", "20", "--out", str(tmp_path / "out"), "--to"]
    for to in ("onnx", "safetensors"):
        assert main([*command, to]) == 0
    assert len(card(tmp_path / "out").files) == 2
    assert main([*command, "safetensors", "--weights", "best", "--name", "best"]) == 0
    read = card(tmp_path / "out")
    assert list(read.files) == ["safetensors"]
    assert read.energy is None, "it was measured on the last epoch's"


def test_a_card_names_no_folder_of_its_maker(event_run, tmp_path, capsys):
    assert main(["export", str(event_run), "--to", "safetensors", "--out", str(tmp_path)]) == 0
    for path in (tmp_path / "card.json", tmp_path / "README.md"):
        assert str(event_run.parent) not in path.read_text()
    assert str(event_run.parent).encode() not in (tmp_path / "network.safetensors").read_bytes()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("shortcut-snn: error: "), said
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "safetensors", "--streaming"], "a network in safetensors runs step by step as it is"),
        (["--to", "onnx", "--images", "0"], "at least 1 is needed to compare"),
        (["--to", "tensorrt"], "--to"),
        ([], "required: export.to"),
    ],
)
def test_arguments(run, tmp_path, capsys, arguments, said):
    assert main(["export", str(run), "--out", str(tmp_path / "out"), *arguments]) in (1, 2)
    assert said in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_no_run(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "onnx"]) == 1
    assert "holds no run" in one_line(capsys)


def test_data_that_are_gone(event_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(event_run, folder)
    recipe = recipe_io.read(folder / "recipe.yaml")
    changes = {"data.root": str(tmp_path / "gone.npz")}
    recipe_io.write(recipe_io.changed(recipe, changes), folder / "recipe.yaml")
    assert main(["export", str(folder), "--to", "safetensors"]) == 1
    assert "gone.npz" in one_line(capsys)


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnxscript"), ("nir", "nir"), ("nir", "nirtorch")])
def test_a_package_that_is_not_installed(run, tmp_path, capsys, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(run), "--to", to, "--out", str(tmp_path / "out")]) == 1
    assert f"needs {package}, which is not installed: pip install 'shortcut-snn[export]'" in one_line(capsys)
    assert list(Path(tmp_path / "out").iterdir()) == []
