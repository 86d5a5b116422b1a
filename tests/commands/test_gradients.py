"""The commands that look at a network: what `gradients` and `energy` say and write."""

import csv
import json
import shutil

import pytest
from safetensors.torch import save_file
from shortcut_snn.cli import main

from shortcut_snn.deploy.weights import read_network

from .small import options, train

SETTINGS = {"train__epochs": 1, "neuron__surrogate__name": "rectangle"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looking") / "run"
    assert train(folder, **SETTINGS) == 0
    return folder


def test_a_verdict_and_tips_that_were_measured(tmp_path, capsys):
    assert main(["gradients", "--out", str(tmp_path), *options(**SETTINGS, network__name="resnet18")]) == 0
    said = capsys.readouterr().out
    assert "explodes: from layer4.1.spike2 back to stem.spike the gradient grows" in said
    assert "calibrate each layer's surrogate width" in said
    assert "cosine between 2 batches" in said
    rows = list(csv.DictReader((tmp_path / "layers.csv").open()))
    assert len(rows) == 17
    assert rows[-1]["gain"] == ""


def test_vanilla_has_nothing_to_compare_with(tmp_path, capsys):
    changes = {"method__name": "vanilla", "neuron__surrogate__calibrate": "true"}
    command = ["gradients", "--out", str(tmp_path), "--batches", "1", *options(**SETTINGS, **changes)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "with / without" not in said
    assert "healthy: " in said, "it was calibrated before the look"


def test_a_trained_network_gets_no_other_blocks(run, tmp_path, capsys, monkeypatch):
    from shortcut_snn.training import diagnose

    tried = []
    remedies = diagnose._rebuilt
    monkeypatch.setattr(diagnose, "_rebuilt", lambda *given: tried.extend(remedies(*given)) or [])
    assert main(["gradients", "--out", str(tmp_path), "--run", str(run), *options(**SETTINGS)]) == 0
    assert {remedy.group for remedy in tried} <= {"branches"}


def test_a_runs_own_tables_are_not_written_over(run, capsys):
    before = (run / "gradients.csv").read_bytes()
    assert main(["gradients", "--run", str(run), "--out", str(run), *options(**SETTINGS)]) == 1
    assert "holds a run" in capsys.readouterr().err
    assert (run / "gradients.csv").read_bytes() == before


@pytest.mark.parametrize("batches", ["0", "-1"])
@pytest.mark.parametrize("command", ["gradients", "energy"])
def test_at_least_one_batch(run, tmp_path, capsys, command, batches):
    given = {"gradients": ["--out", str(tmp_path / "g"), *options(**SETTINGS)], "energy": [str(run)]}[command]
    assert main([command, *given, f"--batches={batches}"]) == 1
    assert "--batches must be at least 1" in capsys.readouterr().err


def test_energy_is_what_the_run_left(run, capsys):
    left = list(csv.DictReader((run / "energy.csv").open()))
    result = json.loads((run / "result.json").read_text())
    assert main(["energy", str(run), "--batches", "1"]) == 0
    said = capsys.readouterr().out
    assert list(csv.DictReader((run / "energy.csv").open())) == left
    assert sum(float(row["energy_pj"]) for row in left) == pytest.approx(result["energy_pj"])
    assert f"{result['energy_pj'] / 1000:.4g} nJ an image" in said
    assert len(left) == 22, "19 convolutions, two projections, the readout"
    adding = [row["layer"] for row in left if float(row["additions"])]
    assert "layer1.0.conv1" in adding
    assert not {"stem.conv", "classifier"} & set(adding)


def test_a_network_file_that_does_not_say_enough(run, tmp_path, capsys):
    state, about = read_network(run / "network.safetensors")
    for changes, said in (
        ({"data": {"classes": 5}}, "does not say what data it was trained on"),
        ({"data": {**about["data"], "mean": None}}, "does not say what data it was trained on"),
        ({"surrogate_widths": {"stem.spike": "wide"}}, "is damaged"),
    ):
        other = tmp_path / "run"
        shutil.copytree(run, other, dirs_exist_ok=True)
        save_file(state, other / "network.safetensors", metadata={"about": json.dumps({**about, **changes})})
        assert main(["evaluate", str(other)]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
