"""``shortcut-snn export`` on trained runs: its files, its card and its errors."""

import json
import os
import re
import resource
import shutil
import sys
import warnings
from dataclasses import dataclass

import nir
import numpy as np
import onnxruntime
import pytest
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from shortcut_snn import components
from shortcut_snn.cli import main
from shortcut_snn.data import as_data
from shortcut_snn.deploy import card, load
from shortcut_snn.deploy.card import ENERGY
from shortcut_snn.deploy.nir_export import DT
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.recipes import open_run

from ..training.small import error_line

pytestmark = pytest.mark.filterwarnings("ignore")


def export(run, out, *options, images=20):
    return main(["export", str(run), "--out", str(out), "--images", str(images), *options])


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """All formats of the run on digits, in one folder."""
    folder = tmp_path_factory.mktemp("exported") / "digits-resnet8"
    for kind in ("safetensors", "nir", "onnx"):
        assert export(trained, folder, "--to", kind, images=60) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert export(trained, folder, "--to", "torch-export", "--streaming", images=60) == 0
    return folder


def run_images(run):
    """Return the test images of a run and their labels."""
    test = open_run(run)[1].test
    return test.fetch(np.arange(len(test))), test.labels


@pytest.mark.parametrize(
    "kind",
    [
        "safetensors", "nir", "onnx", "integer", "c",
        # Nothing warns on the way to the file.
        pytest.param("torch-export", marks=pytest.mark.filterwarnings("error")),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_one_line(trained, tmp_path, capsys, kind):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        assert export(trained, tmp_path, "--to", kind, "--set", "network.time_steps=1") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "could not be written: File too large" in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_agreement_is_printed(trained, tmp_path, capsys):
    # As a killed export leaves it.
    (tmp_path / ".shortcut-snn-network-0123abcd.safetensors").touch()
    os.utime(tmp_path / ".shortcut-snn-network-0123abcd.safetensors", (0, 0))
    assert export(trained, tmp_path, "--to", "safetensors", images=30) == 0
    output = capsys.readouterr().out
    assert "30 of 30 predictions agree" in output
    assert "card.json and README.md" in output
    assert {path.name for path in tmp_path.iterdir()} == {"network.safetensors", "card.json", "README.md"}


def test_other_runtimes_have_the_accuracy_of_the_run(trained, exported):
    result = json.loads((trained / "result.json").read_text())
    images, labels = run_images(trained)
    network = load(exported)
    session = onnxruntime.InferenceSession(exported / "network.onnx")
    onnx_logits = torch.tensor(session.run(["logits"], {"images": images.numpy()})[0])
    module, state, nir_logits = import_from_nir(nir.read(exported / "network.nir"), dt=DT), None, 0
    frames = Prepare(network.spec)(images)
    with torch.no_grad():
        for _ in range(network.spec.time_steps):
            logits, state = module(frames, state)
            nir_logits = nir_logits + logits
    for classes in (network.predict(images), onnx_logits.argmax(1), nir_logits.argmax(1)):
        accuracy = (classes == labels).float().mean().item()
        assert accuracy == pytest.approx(result["test_last"]["accuracy"], abs=0.011)
    # The run's own file is loaded too, and bfloat16 costs little accuracy.
    for network in (load(trained), load(exported, precision="bfloat16")):
        accuracy = (network.predict(images) == labels).float().mean().item()
        assert accuracy == pytest.approx(result["test_last"]["accuracy"], abs=0.05)


def test_the_card_holds_what_the_run_measured(trained, exported):
    exported_card = card(exported)
    result = json.loads((trained / "result.json").read_text())
    assert exported_card.name == "digits-resnet8"
    assert exported_card.accuracy["test"] == result["test_last"]["accuracy"]
    assert exported_card.energy == {key: result[key] for key in ENERGY}
    assert exported_card.data["samples"] == {"train": 270, "validation": 30, "test": 100}
    assert exported_card.recipe["network"]["kind"] == "resnet8"
    assert set(exported_card.files.values()) == {path.name for path in exported.glob("network*")}
    text = (exported / "README.md").read_text()
    assert f"{100 * result['test_last']['accuracy']:.2f} % (test)" in text
    assert "library_name: shortcut-snn" in text
    assert text.count("type: image-classification\n") == 2, "no YAML aliases"


def test_the_readme_holds_code_that_runs_the_network(trained, exported):
    values = {"images": run_images(trained)[0]}
    text = (exported / "README.md").read_text().replace("path/of/this/folder", str(exported))
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, values)
    assert values["labels"].tolist() == load(exported).predict(values["images"]).tolist()


def test_half_precision_is_measured_again(trained, tmp_path, capsys):
    stated = ["--licence", "cc0-1.0", "--data-name", "Digits of UCI", "--data-licence", "CC BY 4.0"]
    assert export(trained, tmp_path, "--to", "safetensors", "--half", *stated) == 0
    output, network, half_card = capsys.readouterr().out, load(tmp_path), card(tmp_path)
    images, labels = run_images(trained)
    accuracy = (network.predict(images) == labels).float().mean().item()
    assert half_card.accuracy == {"test": pytest.approx(accuracy)}
    assert f"test accuracy in half precision: {100 * accuracy:.2f} %" in output
    assert (half_card.licence, half_card.data["name"]) == ("cc0-1.0", "Digits of UCI")
    assert "license: cc0-1.0" in (tmp_path / "README.md").read_text()
    # Each weight is rounded once.
    folded = load(trained).network.state_dict()
    for name, weight in network.network.state_dict().items():
        assert torch.equal(weight, folded[name].half().float()), name
    half_size, size = ((folder / "network.safetensors").stat().st_size for folder in (tmp_path, trained))
    assert half_size < 0.75 * size


@pytest.mark.parametrize("soft", [True, False])
def test_labels_count_as_in_the_run(soft, forgotten, tmp_path):
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    classes = torch.arange(60) % 2
    # Probabilities, or classes of which a third is unknown.
    labels = F.one_hot(classes).float() if soft else classes.where(torch.arange(60) % 3 > 0, torch.tensor(-100))
    about = {"classes": ["a", "b"], "kind": "static", "mean": [0.5], "std": [0.3]}

    @components.data("labelled")
    @dataclass(frozen=True)
    class Labelled:
        batch_size: int = 20

        def load(self, time_steps=None):
            return as_data([TensorDataset(images, labels)] * 2, batch_size=self.batch_size, description=about)

    network = ["--data.kind", "labelled", "--network.kind", "resnet8", "--network.width", "4"]
    assert main(["train", *network, "--training.epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert export(tmp_path / "run", tmp_path / "out", "--to", "safetensors", "--half") == 0
    hits = load(tmp_path / "out").predict(images) == classes
    expected = (hits if soft else hits[labels >= 0]).float().mean().item()
    assert card(tmp_path / "out").accuracy == {"test": pytest.approx(expected)}


def test_int8_is_measured_again(trained, tmp_path, capsys):
    assert export(trained, tmp_path, "--int8", "--to", "onnx") == 0
    output, int8_card = capsys.readouterr().out, card(tmp_path)
    assert re.search(r"\d+ of 20 predictions agree", output)
    assert f"test accuracy in int8: {100 * int8_card.accuracy['test']:.2f} %" in output
    assert int8_card.files == {"onnx, int8": "network.onnx"}
    assert int8_card.energy is None


def test_a_card_describes_one_network(trained, tmp_path, capsys):
    run, out = shutil.copytree(trained, tmp_path / "run"), tmp_path / "out"
    shutil.copy(run / "network.safetensors", run / "best.safetensors")
    assert export(run, out, "--to", "nir") == 0
    assert export(run, out, "--to", "safetensors") == 0
    both = card(out)
    assert (both.name, list(both.files)) == ("out", ["nir", "safetensors"])
    assert both.weights == "after the last of 2 epochs"
    assert export(run, out, "--to", "safetensors", "--weights", "best") == 1
    assert "network.nir of another network" in error_line(capsys)
    assert card(out) == both
    (out / "network.nir").unlink()
    assert export(run, out, "--to", "safetensors", "--weights", "best") == 0
    best = card(out)
    assert list(best.files) == ["safetensors"]
    assert best.weights == "after the best in validation of 2 epochs"
    assert best.energy is None, "it was measured with the last epoch's weights"


def test_the_card_of_a_changed_network_has_no_figures_of_the_run(trained, tmp_path):
    assert export(trained, tmp_path, "--to", "safetensors", "--set", "network.time_steps=1") == 0
    assert (card(tmp_path).accuracy, card(tmp_path).energy) == ({}, None)


def test_a_card_holds_no_paths_and_no_loggers(trained_on_events, tmp_path):
    loggers = "loggers=[{kind: mlflow, tracking_uri: 'http://me:secret@localhost'}]"
    assert export(trained_on_events, tmp_path, "--to", "safetensors", "--set", loggers) == 0
    for path in tmp_path.iterdir():
        assert str(trained_on_events.parent).encode() not in path.read_bytes()
        assert b"secret" not in path.read_bytes()


def test_a_run_and_another_readme_are_not_replaced(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    before = (run / "network.safetensors").read_bytes()
    assert export(run, run, "--to", "safetensors") == 1
    assert "holds a run" in error_line(capsys)
    assert (run / "network.safetensors").read_bytes() == before
    (tmp_path / "README.md").write_text("# My project")
    assert export(run, tmp_path, "--to", "safetensors") == 1
    assert "README.md" in error_line(capsys)
    assert (tmp_path / "README.md").read_text() == "# My project"


@pytest.mark.parametrize(
    ("options", "keyword"),
    [
        (["--to", "safetensors", "--streaming"], "streaming"),
        (["--to", "onnx", "--half"], "half"),
        (["--to", "nir", "--int8"], "int8"),
        ([], "--to"),
    ],
)
def test_options_that_do_not_fit_are_refused(trained, tmp_path, capsys, options, keyword):
    assert export(trained, tmp_path / "out", *options) in (1, 2)
    assert keyword in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnxscript"), ("nir", "nirtorch")])
def test_a_missing_package_is_named_with_its_extra(trained, tmp_path, capsys, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert export(trained, tmp_path, "--to", to) == 1
    error = error_line(capsys)
    assert package in error
    assert "shortcut-snn[export]" in error
    assert list(tmp_path.iterdir()) == []
