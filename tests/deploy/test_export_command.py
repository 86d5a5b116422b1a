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
from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.data import ImageData
from shortcut_snn.deploy import card, load
from shortcut_snn.deploy.nir_graph import DT
from shortcut_snn.deploy.prepare import Prepare
from shortcut_snn.recipes.build import run_recipe
from shortcut_snn.recipes.entries import changed, write_recipe
from shortcut_snn.training import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Every format of the run on digits, in one folder."""
    folder = tmp_path_factory.mktemp("exported") / "digits-resnet8"
    for arguments in (["safetensors"], ["nir"], ["onnx"], ["torch-export", "--streaming"]):
        command = ["export", str(trained), "--out", str(folder), "--images", "60", "--name", folder.name, "--to"]
        assert main([*command, *arguments]) == 0
    return folder


def images_of(trained):
    recipe = run_recipe(RunFolder(trained))
    return recipe.data.load(recipe.time_steps).test


def test_it_says_that_all_agrees(trained, tmp_path, capsys):
    assert main(["export", str(trained), "--to", "safetensors", "--out", str(tmp_path), "--images", "30"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"30 of 30 predictions agree; the logits of \d+ images differ by more than rounding, where torch alone, in "
        r"another order, moves \d+; largest difference \S+ \(the largest logit is \S+\)",
        said,
    )
    assert "card.json and README.md" in said
    assert {path.name for path in tmp_path.iterdir()} == {"network.safetensors", "card.json", "README.md"}


def test_all_formats_have_the_accuracy_of_the_run(trained, exported, capsys):
    result = json.loads((trained / "result.json").read_text())
    test = images_of(trained)
    images, labels = test.fetch(np.arange(len(test))), test.labels
    session = onnxruntime.InferenceSession(exported / "network.onnx")
    predicted = {
        "network.safetensors": load(exported / "network.safetensors").predict(images),
        "network.onnx": torch.tensor(session.run(["logits"], {"images": images.numpy()})[0]).argmax(1),
    }
    for name, classes in predicted.items():
        accuracy = (classes == labels).float().mean().item()
        assert accuracy == pytest.approx(result["test_last"]["accuracy"], abs=0.011), name
    assert evaluate(trained).metrics["accuracy"] == pytest.approx(result["test_last"]["accuracy"], abs=1e-6)
    # A run's own file does too, and bfloat16 costs next to nothing.
    for network in (load(trained), load(exported, precision="bfloat16")):
        accuracy = (network.predict(images) == labels).float().mean().item()
        assert accuracy == pytest.approx(result["test_last"]["accuracy"], abs=0.05)


def test_files_run_without_us(trained, exported):
    images = images_of(trained).fetch(np.arange(20))
    expected = load(trained).logits(images)
    session = onnxruntime.InferenceSession(exported / "network.onnx")
    assert np.allclose(session.run(["logits"], {"images": images.numpy()})[0], expected, atol=1e-5)
    about = load(trained).about
    frames, state, total = Prepare(about)(images), None, 0
    module = import_from_nir(nir.read(exported / "network.nir"), dt=DT)
    with torch.no_grad():
        for _ in range(about.time_steps):
            logits, state = module(frames, state)
            total = total + logits
    assert torch.allclose(total / about.time_steps, expected, atol=1e-5)


def test_the_card(trained, exported):
    read = card(exported)
    result = json.loads((trained / "result.json").read_text())
    assert read.name == "digits-resnet8"
    assert read.accuracy["test"] == result["test_last"]["accuracy"]
    assert read.data["samples"] == {"train": 270, "validation": 30, "test": 100}
    assert read.recipe["network"]["kind"] == "resnet8"
    assert set(read.files.values()) == {path.name for path in exported.glob("network*")}
    text = (exported / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: shortcut-snn\n")
    assert f"| test | {100 * result['test_last']['accuracy']:.2f} % |" in text
    assert read.energy is not None
    assert read.energy["an input, pJ (45 nm)"] == result["energy_pj"]
    assert f"- an input, pJ (45 nm): {result['energy_pj']:.4g}" in text


def test_half_precision(trained, tmp_path, capsys):
    words = ["export", str(trained), "--to", "safetensors", "--out", str(tmp_path / "half"), "--half", "--images", "30"]
    said = ["--licence", "cc0-1.0", "--data-name", "Digits of UCI", "--data-licence", "CC BY 4.0"]
    assert main([*words, *said]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"\d+ of 30 predictions agree; the logits of \d+ images differ by more than rounding; largest", printed
    )
    test, network, read = images_of(trained), load(tmp_path / "half"), card(tmp_path / "half")
    accuracy = (network.predict(test.fetch(np.arange(len(test)))) == test.labels).float().mean().item()
    assert read.accuracy == {"test": pytest.approx(accuracy)}
    assert f"test accuracy in half precision: {100 * accuracy:.2f} %" in printed
    assert (read.licence, read.data["name"], read.data["licence"]) == ("cc0-1.0", "Digits of UCI", "CC BY 4.0")
    assert read.inputs.startswith("grey images, resized until they just cover 8 x 8 pixels")
    text = (tmp_path / "half" / "README.md").read_text()
    assert text.startswith('---\nlicense: "cc0-1.0"\n')
    assert "- licence: CC BY 4.0" in text
    # Every weight is the network's own, rounded once.
    folded = load(trained).runtime.network.state_dict()
    for name, weight in network.runtime.network.state_dict().items():
        assert torch.equal(weight, folded[name].half().float()), name
    size = [(path / "network.safetensors").stat().st_size for path in (tmp_path / "half", trained)]
    assert size[0] < 0.75 * size[1]
    assert main([*words[:3], "onnx", *words[4:]]) == 1
    assert "--half: only safetensors files have weights in half precision, not onnx; leave it out" in one_line(capsys)


def test_a_card_speaks_of_one_network(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    shutil.copy(trained / "network.safetensors", tmp_path / "run" / "best.safetensors")
    command = ["export", str(tmp_path / "run"), "--images", "20", "--out", str(tmp_path / "out"), "--to"]
    for to in ("onnx", "safetensors"):
        assert main([*command, to]) == 0
    assert len(card(tmp_path / "out").files) == 2
    assert card(tmp_path / "out").weights == "after the last of 2 epochs"
    # What is said of a network once holds for its other files.
    words = ["--name", "two", "--licence", "cc0-1.0", "--data-name", "Digits", "--data-licence", "CC BY 4.0"]
    assert main([*command, "onnx", *words]) == 0
    assert main([*command, "torch-export"]) == 0
    read = card(tmp_path / "out")
    assert (read.name, read.licence, read.data["name"], read.data["licence"]) == (
        "two",
        "cc0-1.0",
        "Digits",
        "CC BY 4.0",
    )
    assert len(read.files) == 2
    assert main([*command, "safetensors", "--weights", "best", "--name", "best"]) == 0
    assert card(tmp_path / "out").licence is None
    read = card(tmp_path / "out")
    assert list(read.files) == ["safetensors"]
    assert read.weights == "after the best in validation of 2 epochs"
    assert read.energy is None, "it was measured on the last epoch's"


def test_a_runs_own_network_is_never_written_over(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    before = (run / "network.safetensors").read_bytes()
    assert main(["export", str(run), "--to", "safetensors", "--out", str(run), "--images", "20"]) == 1
    assert f"{run} holds a run, whose own network this would replace" in one_line(capsys)
    assert (run / "network.safetensors").read_bytes() == before


def test_a_readme_of_another_kind_is_not_written_over(trained, tmp_path, capsys):
    (tmp_path / "README.md").write_text("# My project")
    arguments = ["export", str(trained), "--to", "safetensors", "--out", str(tmp_path), "--images", "20"]
    assert main(arguments) == 1
    assert "is not a network's card, which would replace it" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").unlink()
    # One of ours is.
    assert main(arguments) == main(arguments) == 0


def test_images_of_another_size_are_refused(trained, tmp_path, capsys, monkeypatch):
    sample = ImageData.sample

    def larger(data, count):
        images, labels = sample(data, count)
        return images.repeat_interleave(2, -1), labels

    monkeypatch.setattr(ImageData, "sample", larger)
    assert main(["export", str(trained), "--to", "safetensors", "--out", str(tmp_path / "out")]) == 1
    assert "takes images of 1 x 8 x 8, and these are 1 x 8 x 16" in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_card_has_no_loggers_and_says_how_its_files_are_used(trained, tmp_path):
    loggers = "loggers=[{kind: mlflow, tracking_uri: 'http://me:secret@localhost'}]"
    assert (
        main(["export", str(trained), "--to", "nir", "--out", str(tmp_path), "--images", "20", "--set", loggers]) == 0
    )
    said = (tmp_path / "README.md").read_text() + (tmp_path / "card.json").read_text()
    assert "secret" not in said
    assert "shortcut-snn predict" not in said
    assert "runtimes of their formats" in said


def test_figures_of_a_run_are_not_those_of_another_network(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    energy = (run / "energy.csv").read_bytes()
    changes = ["--set", "network.time_steps=1"]
    assert main(["export", str(run), "--to", "safetensors", "--images", "20", *changes]) == 0
    read = card(run / "export")
    assert (read.accuracy, read.energy) == ({}, None)
    assert main(["energy", str(run), "--samples", "1", *changes]) == 0
    assert (run / "energy.csv").read_bytes() == energy


def test_a_card_names_no_folder_of_its_maker(trained_on_events, tmp_path, capsys):
    assert main(["export", str(trained_on_events), "--to", "safetensors", "--out", str(tmp_path)]) == 0
    for path in (tmp_path / "card.json", tmp_path / "README.md"):
        assert str(trained_on_events.parent) not in path.read_text()
    assert str(trained_on_events.parent).encode() not in (tmp_path / "network.safetensors").read_bytes()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("shortcut-snn: error: "), said
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "safetensors", "--streaming"], "there is no safetensors file of a single time step; leave it out"),
        (["--to", "onnx", "--images", "0"], "at least 1 is needed to compare"),
        (["--to", "tensorrt"], "unknown exporter 'tensorrt'"),
        ([], "required: --to"),
    ],
)
def test_arguments(trained, tmp_path, capsys, arguments, said):
    assert main(["export", str(trained), "--out", str(tmp_path / "out"), *arguments]) in (1, 2)
    assert said in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_no_run(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "onnx"]) == 1
    assert "holds no run" in one_line(capsys)


def test_data_that_are_gone(trained_on_events, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained_on_events, folder)
    gone = changed(run_recipe(RunFolder(folder)), {"data": {"root": str(tmp_path / "gone.npz")}})
    write_recipe(gone, folder / "recipe.yaml")
    assert main(["export", str(folder), "--to", "safetensors"]) == 1
    assert "gone.npz" in one_line(capsys)
    # The data may lie elsewhere now.
    root = run_recipe(RunFolder(trained_on_events)).data.root
    assert main(["export", str(folder), "--to", "safetensors", "--set", f"data.root={root}"]) == 0


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnxscript"), ("nir", "nir"), ("nir", "nirtorch")])
def test_a_package_that_is_not_installed(trained, tmp_path, capsys, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(trained), "--to", to, "--out", str(tmp_path / "out")]) == 1
    assert f"needs {package}, which is not installed: pip install 'shortcut-snn[export]'" in one_line(capsys)
    assert list(Path(tmp_path / "out").iterdir()) == []
