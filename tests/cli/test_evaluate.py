"""The commands evaluate and energy: they repeat what the run measured."""

import csv
import json
import os
import shutil
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shortcut_snn.cli import main
from shortcut_snn.cli._commands import COMMANDS
from shortcut_snn.cli._terminal import Parser
from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.energy.report import with_unit
from shortcut_snn.introspection.neurons import spiking_layers
from shortcut_snn.recipes import build, load_run
from shortcut_snn.training.result import ENERGY_SAMPLES

from ..training.small import error_line, train

SETTINGS = {"training__epochs": 1, "neuron__surrogate__kind": "rectangle"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    assert train(folder, **SETTINGS) == 0
    return folder


def test_evaluate_repeats_the_run(run, capsys):
    result = json.loads((run / "result.json").read_text())
    evaluation = evaluate(run)
    assert evaluation.metrics == pytest.approx(result["test_last"])
    assert evaluate(run, "best", "validation").metrics == pytest.approx(result["validation_best"])
    assert main(["evaluate", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"test accuracy of {run} (last epoch): {100 * result['test_last']['accuracy']:.2f} %"
    assert lines[1] == f"test loss: {result['test_last']['loss']:.4f}"
    assert lines[3].split() == ["stem.spike", f"{evaluation.rates['stem.spike']:.4f}"]


def test_exits_are_shown_with_their_own_network_and_data_only(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "anytime.csv").write_text("network,accuracy,time_steps\nanytime,0.5,1.5\n")
    for words, shown in (([], True), (["--weights", "best"], False), (["--set", "data.test_limit=7"], False)):
        assert main(["evaluate", str(copy), *words]) == 0
        assert ("with exits (anytime): accuracy 50.00 %" in capsys.readouterr().out) == shown


def test_firing_rates_are_means_over_all_batches(tmp_path):
    """Sorted by class, the batches differ; the mean over all is that of the whole test set at once."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 25)
    images = (generator.random((50, 8, 8)) * np.where(labels == 0, 40, 255)[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    folder = tmp_path / "run"
    changes = {"data__kind": "npz", "data__root": tmp_path / "data.npz", "data__batch_size": 20}
    changes |= {"data__train_limit": "null", "data__test_limit": "null"}
    assert train(folder, **SETTINGS, **changes) == 0
    network, recipe, _ = load_run(folder)
    spikes: dict[str, list[torch.Tensor]] = {}
    for name, layer in spiking_layers(network).items():
        layer.register_forward_hook(lambda module, args, out, name=name: spikes.setdefault(name, []).append(out))
    data = recipe.data.load(recipe.time_steps)
    task, _ = build(recipe, data)
    batches = [task.prepare(batch)[0] for batch in data.loaders(0).test]
    assert len(batches) == 3
    network(torch.cat(batches))
    network(batches[-1])
    whole, last = ({name: out[i].float().mean().item() for name, out in spikes.items()} for i in (0, 1))
    rates = evaluate(folder).rates
    assert rates == pytest.approx(whole, rel=1e-4)
    assert rates["stem.spike"] != pytest.approx(last["stem.spike"], rel=0.01)


@pytest.mark.parametrize("changes", [{"data": {"classes": 5}}, {"data": None}], ids=str)
def test_a_network_file_with_invalid_metadata_is_refused(run, tmp_path, capsys, changes):
    state, metadata = read_network(run / "network.safetensors")
    copy = shutil.copytree(run, tmp_path / "run")
    save_file(state, copy / "network.safetensors", metadata={"about": json.dumps({**metadata, **changes})})
    assert main(["evaluate", str(copy)]) == 1
    assert "network.safetensors" in error_line(capsys)


def test_damaged_surrogates_are_named(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "surrogates.json").write_text('{"stem.spike": "wide"}')
    assert main(["evaluate", str(copy)]) == 1
    assert "surrogates.json is damaged" in error_line(capsys)


def test_a_recipe_without_its_network_is_damaged(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "recipe.yaml").write_text("training: {epochs: 1}\n")
    assert main(["evaluate", str(copy)]) == 1
    assert "recipe.yaml is damaged: it has no entry network" in error_line(capsys)


@pytest.mark.parametrize("change", ["data.seed=1", "data.validation=0.5", "data.train_limit=200"])
def test_training_samples_are_not_evaluated(run, capsys, change):
    assert main(["evaluate", str(run), "--set", change]) == 1
    assert f"{change.partition('=')[0]} decides which samples trained" in error_line(capsys)


def test_invalid_changes_do_not_blame_the_recipe_file(run, capsys):
    assert main(["evaluate", str(run), "--set", "data.test_limit=0"]) == 2
    message = capsys.readouterr().err
    assert "data.test_limit" in message
    assert "recipe.yaml" not in message


def test_energy_repeats_the_run(run, capsys, full_pictures):
    def rows():
        return list(csv.DictReader((run / "energy.csv").open()))

    for name, age in ((".shortcut-snn-energy-0123abcd.png", 7200), (".shortcut-snn-energy-89efabcd.png", 0)):
        (run / name).touch()
        os.utime(run / name, (time.time() - age,) * 2)
    before, result = rows(), json.loads((run / "result.json").read_text())
    assert main(["energy", str(run)]) == 0
    output = capsys.readouterr().out
    assert rows() == before
    # A temporary file of a killed command is removed, but not one that another command may be writing.
    assert [path.name for path in run.glob(".*")] == [".shortcut-snn-energy-89efabcd.png"]
    assert len(before) == 10, "7 convolutions, two projections, the readout"
    for key in ("energy_pj", "total_energy_pj"):
        assert sum(float(row[key]) for row in before) == pytest.approx(result[key])
    for value in ("energy_pj", "total_energy_pj", "quantised_energy_pj"):
        assert with_unit(result[value]) in output
    assert f"{100 * result['break_even_rate']:.3g} %" in output
    assert (run / "energy.png").stat().st_size > 500
    with_acs = [row["layer"] for row in before if float(row["acs"])]
    assert "layer1.0.conv1" in with_acs
    assert not {"stem.conv", "classifier"} & set(with_acs)
    assert output.count(" % ") >= len(with_acs)


def test_energy_on_other_data_is_not_written(run, tmp_path, capsys):
    before = (run / "energy.csv").read_bytes()
    assert main(["energy", str(run), "--samples", "3", "--set", "data.test_limit=10"]) == 0
    assert (run / "energy.csv").read_bytes() == before
    assert "nothing written" in capsys.readouterr().out
    np.savez(tmp_path / "rgb.npz", **{f"x_{part}": np.zeros((20, 3, 8, 8), np.uint8) for part in ("train", "test")},
        **{f"y_{part}": np.arange(20) % 10 for part in ("train", "test")})  # fmt: skip
    assert main(["energy", str(run), "--set", "data.kind=npz", "--set", f"data.root={tmp_path / 'rgb.npz'}"]) == 1
    assert "takes 1 channels, got 3" in capsys.readouterr().err
    assert main(["energy", str(run), "--samples", "0"]) == 2
    assert "--samples" in capsys.readouterr().err


def test_the_default_number_of_samples_is_that_of_a_run():
    parser = Parser()
    parser.add_options(COMMANDS["energy"].options)
    assert parser.parse_args([]).samples == ENERGY_SAMPLES
