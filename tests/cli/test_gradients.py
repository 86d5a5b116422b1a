"""The commands that look at a network: what `gradients`, `energy` and `evaluate` say and write."""

import csv
import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shortcut_snn.cli import gradients as command
from shortcut_snn.cli import main
from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.cli.gradients import gradients
from shortcut_snn.deploy import read_network
from shortcut_snn.diagnosis import Diagnosis
from shortcut_snn.introspection import spiking_layers
from shortcut_snn.recipes import build, changed, entries, load_data, load_run, recipe_of, run_recipe
from shortcut_snn.training import Classification, RunFolder, format_value, input_and_target, seeded

from ..registered import forgetting
from ..training.small import options, train

SETTINGS = {"training__epochs": 1, "neuron__surrogate__kind": "rectangle"}
OWN = """
from torch import nn
from shortcut_snn import components
from shortcut_snn.neurons import LIF, Rectangle

@components.network("own_neurons")
class OwnNeurons(nn.Module):
    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        sizes = [in_channels * image_size[0] * image_size[1]] + [16] * 10
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(16) for _ in self.linears)
        self.spikes = nn.ModuleList(LIF(surrogate=Rectangle(4.0)) for _ in self.linears)
        self.head = nn.Linear(16, num_classes)

    def forward(self, images):
        x = images.flatten(1).expand(2, -1, -1)
        for linear, norm, spike in zip(self.linears, self.norms, self.spikes):
            x = spike(norm(linear(x.flatten(0, 1))).unflatten(0, x.shape[:2]))
        return self.head(x.mean(0))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looking") / "run"
    assert train(folder, **SETTINGS) == 0
    return folder


def rows(path):
    return list(csv.DictReader(path.open()))


def test_layers_a_verdict_and_tips_that_were_measured(tmp_path, capsys, full_pictures):
    assert main(["gradients", "--out", str(tmp_path), *options(**SETTINGS, network__kind="resnet18")]) == 0
    said = capsys.readouterr().out
    assert "explodes: from layer4.1.spike2 back to stem.spike the gradient grows" in said
    assert "calibrate each layer's surrogate (--method.calibrate true)" in said
    assert "cosine between 2 batches" in said
    assert "with / without" in said
    tables = [line for line in said.splitlines() if line.startswith("|")]
    assert len(tables) > 30
    assert max(map(len, tables)) < 80, "wider than a terminal"
    assert (tmp_path / "gradients.png").stat().st_size > 10_000
    assert [row["layer"] for row in rows(tmp_path / "gradients.csv")][:2] == ["stem.conv", "layer1.0.conv1"]
    layers = rows(tmp_path / "layers.csv")
    assert len(layers) == 17
    assert layers[-1]["gain"] == ""


def test_vanilla_has_nothing_to_compare_with(tmp_path, capsys):
    given = ["gradients", "--out", str(tmp_path), "--batches", "1", *options("vanilla", **SETTINGS)]
    assert main(given) == 0
    assert "with / without" not in capsys.readouterr().out


def test_without_calibration_means_the_networks_own_surrogates():
    """ResNet-34's gradient explodes; calibrated it does not, and what stands beside it is the one that does."""
    small = {
        "network": {"kind": "resnet34", "width": 4, "time_steps": 2},
        "neuron": {"surrogate": {"kind": "rectangle", "width": 1.0}},
        "data": {"batch_size": 50, "train_limit": 60, "test_limit": 10},
    }
    found = gradients(recipe_of("digits", "calibrated", {"method": {"branches": None}}, small), batches=1)
    vanilla = gradients(recipe_of("digits", "vanilla", small), batches=1)
    assert set(vanilla.reports) == {"without"}
    assert found.reports["without"].rms == vanilla.reports["without"].rms
    assert found.names["with"] == "no branches, calibrated surrogates"
    assert found.reports["without"].ratio > 10 * found.reports["with"].ratio
    assert "healthy: " in str(found.diagnosis), "it was calibrated before the look"
    assert "explodes: " in str(vanilla.diagnosis)


def test_a_runs_recipe_and_weights(run, tmp_path, capsys, monkeypatch):
    tried = []
    remedies = command._rebuilt
    monkeypatch.setattr(command, "_rebuilt", lambda *given: tried.extend(remedies(*given)) or [])
    assert main(["gradients", "--out", str(tmp_path), "--run", str(run)]) == 0
    # A trained network gets no other blocks.
    assert {remedy.group for remedy in tried} <= {"branches"}
    assert capsys.readouterr().out.startswith(
        "resnet8 on digits, branches at stages, logit_sum, lambda linear from 0.25"
    )
    assert len(rows(tmp_path / "gradients.csv")) == 7, "a row for each of ResNet-8's convolutions"
    recipe = run_recipe(RunFolder(run))
    monkeypatch.setattr(command, "_rebuilt", lambda *given: [])
    new, trained = gradients(recipe, 1), gradients(recipe, 1, RunFolder(run))
    assert new.reports["with"].rms != trained.reports["with"].rms
    written = {row["layer"]: float(row["with"]) for row in rows(tmp_path / "gradients.csv")}
    assert trained.reports["with"].rms == pytest.approx(written)


def test_a_run_that_was_not_calibrated_is_where_that_is_asked_for(run):
    """The tip says so, and what stands in its brackets is to be pasted behind the same command."""
    recipe = run_recipe(RunFolder(run), {"method": {"branches": None, "calibrate": True}})
    found = gradients(recipe, 1, RunFolder(run))
    assert found.names["with"] == "no branches, calibrated surrogates"
    assert found.reports["with"].rms != found.reports["without"].rms


def test_a_branch_tip_for_a_run_can_be_pasted_behind_the_same_command(run, tmp_path):
    recipe, place = (
        run_recipe(RunFolder(run), {"method": {"branches": None, "objective": {"kind": "tet"}}}),
        RunFolder(run),
    )
    with seeded(0):
        data = load_data(recipe)
        tried = command._rebuilt(recipe, data, place)
    assert len(tried) == 4
    pasted = [shlex.split(remedy.text.partition("(")[2].rstrip(")")) for remedy in tried]
    assert not any("--preset" in words for words in pasted)
    words = [f"{key.removeprefix('--')}={value}" for key, value in zip(pasted[0][::2], pasted[0][1::2], strict=True)]
    made = run_recipe(
        place, entries.merged({"method": {"branches": None, "objective": {"kind": "tet"}}}, entries.said(words))
    )
    assert made == changed(recipe, "evolutionary")


def test_a_run_brings_its_own_recipe(run, tmp_path, capsys):
    assert main(["gradients", "--out", str(tmp_path / "g"), "--run", str(run), "--preset", "vanilla"]) == 1
    assert "--run brings its own recipe: leave --config and --preset out" in capsys.readouterr().err


def test_a_runs_own_tables_are_not_written_over(run, capsys):
    before = (run / "gradients.csv").read_bytes()
    assert main(["gradients", "--run", str(run), "--out", str(run)]) == 1
    assert "holds a run" in capsys.readouterr().err
    assert (run / "gradients.csv").read_bytes() == before


@pytest.mark.parametrize("count", ["0", "-1"])
@pytest.mark.parametrize(("name", "option"), [("gradients", "batches"), ("energy", "samples")])
def test_at_least_one(run, tmp_path, capsys, name, option, count):
    given = {"gradients": ["--out", str(tmp_path / "g"), *options(**SETTINGS)], "energy": [str(run)]}[name]
    assert main([name, *given, f"--{option}={count}"]) == 2
    assert f"--{option} must be at least 1" in capsys.readouterr().err


def test_neurons_of_a_custom_network_get_no_options(tmp_path, capsys):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    small = ["--data.train_limit", "60", "--data.test_limit", "20", "--neuron.surrogate.width", "2"]
    with forgetting():
        imported = ["--import", str(file), "--config", "digits", "--preset", "vanilla", "--network.kind", "own_neurons"]
        assert main(["gradients", *imported, *small, "--out", str(tmp_path / "g"), "--batches", "1"]) == 0
    told = capsys.readouterr().out
    assert "network 'own_neurons' brings its own neurons: what neuron says has no effect" in told
    assert "surrogate width" in told
    assert "--neuron" not in told


def test_samples_are_counted_as_the_task_does(monkeypatch):
    """A target may be several tensors by name, whose number is not that of the samples."""
    small = {
        "data": {"train_limit": 60, "test_limit": 20, "batch_size": 20},
        "network": {"kind": "resnet8", "width": 2},
    }
    monkeypatch.setattr(
        Classification, "prepare", lambda task, batch: (input_and_target(batch)[0] / 255, {"digit": batch[1].long()})
    )
    for name in ("criterion", "metrics", "evaluation_loss"):
        usual = getattr(Classification, name)
        monkeypatch.setattr(
            Classification, name, lambda task, out, target, usual=usual: usual(task, out, target["digit"])
        )
    assert gradients(recipe_of("digits", "vanilla", small), 1).images == 20


def test_energy_of_other_data_is_not_the_runs(run, capsys):
    before = (run / "energy.csv").read_bytes()
    assert main(["energy", str(run), "--samples", "3", "--set", "data.test_limit=10"]) == 0
    assert (run / "energy.csv").read_bytes() == before
    assert "nothing written: " in capsys.readouterr().out


def test_energy_is_what_the_run_left(run, capsys, full_pictures):
    left = rows(run / "energy.csv")
    result = json.loads((run / "result.json").read_text())
    assert main(["energy", str(run)]) == 0
    said = capsys.readouterr().out
    assert rows(run / "energy.csv") == left
    assert sum(float(row["energy_pj"]) for row in left) == pytest.approx(result["energy_pj"])
    assert f"{result['energy_pj'] / 1000:.4g} nJ an input" in said
    assert len(left) == 10, "7 convolutions, two projections, the readout"
    assert sum(float(row["total_energy_pj"]) for row in left) == pytest.approx(result["total_energy_pj"])
    assert f"with memory {result['total_energy_pj'] / 1000:.4g} nJ" in said
    assert f"quantised to 2 bits {result['quantised_energy_pj'] / 1000:.4g} nJ" in said
    assert f"break even at {100 * result['break_even_rate']:.3g} %" in said
    assert (run / "energy.png").stat().st_size > 500
    adding = [row["layer"] for row in left if float(row["acs"])]
    assert "layer1.0.conv1" in adding
    assert not {"stem.conv", "classifier"} & set(adding)


def test_the_page_shows_where_a_network_breaks_even(run):
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    drawn = page[page.index("<figcaption>energy of an input with memory by firing rate") :]
    drawn = drawn[: drawn.index("</figure>")]
    result = json.loads((run / "result.json").read_text())
    assert ">quantised to 2 bits</text>" in drawn
    even = f"{100 * result['break_even_rate']:.4g}"
    assert f"spiking, firing rate, % {even}: {format_value(result['quantised_energy_pj'] / 1000)}<" in drawn
    assert f": {format_value(result['total_energy_pj'] / 1000)}<" in drawn


def test_evaluate_says_what_the_run_says(run, capsys):
    result = json.loads((run / "result.json").read_text())
    found = evaluate(run)
    assert found.metrics == pytest.approx(result["test_last"])
    assert evaluate(run, "best", "validation").metrics == pytest.approx(result["validation_best"])
    assert main(["evaluate", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"test accuracy of {run} (last epoch): {100 * result['test_last']['accuracy']:.2f} %"
    assert lines[1] == f"test loss: {result['test_last']['loss']:.4f}"
    assert lines[3].split() == ["stem.spike", f"{found.rates['stem.spike']:.4f}"]


def test_rates_are_of_all_batches(tmp_path):
    """Sorted by class, the batches differ; the mean over all is that of the whole test set at once."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 25)
    images = (generator.random((50, 8, 8)) * np.where(labels == 0, 40, 255)[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    folder = tmp_path / "run"
    changes = {"data__kind": "npz", "data__root": tmp_path / "data.npz", "data__batch_size": 20}
    small = [
        part
        for pair in {"data.train_limit": "null", "data.test_limit": "null"}.items()
        for part in (f"--{pair[0]}", pair[1])
    ]
    assert train(folder, *small, **SETTINGS, **changes) == 0
    network, recipe, _ = load_run(folder)
    counted: dict[str, list[torch.Tensor]] = {}
    for name, layer in spiking_layers(network).items():
        layer.register_forward_hook(lambda module, given, out, name=name: counted.setdefault(name, []).append(out))
    data = recipe.data.load(recipe.time_steps)
    task, _ = build(recipe, data)
    batches = [task.prepare(batch)[0] for batch in data.loaders(0).test]
    assert len(batches) == 3
    network(torch.cat(batches))
    expected = {name: torch.as_tensor(outs[0]).float().mean().item() for name, outs in counted.items()}
    found = evaluate(folder).rates
    assert found == pytest.approx(expected, rel=1e-4)
    # And the last batch has others.
    for outs in counted.values():
        outs.clear()
    network(batches[-1])
    assert counted["stem.spike"][0].float().mean().item() != pytest.approx(found["stem.spike"], rel=0.01)


def test_a_network_file_that_does_not_say_enough(run, tmp_path, capsys):
    state, about = read_network(run / "network.safetensors")
    for changes, said in (
        ({"data": {"classes": 5}}, "does not say what data it was trained on"),
        ({"data": None}, "does not say what data it was trained on"),
        ({"surrogate_widths": {"stem.spike": "wide"}}, "is damaged"),
    ):
        other = tmp_path / "run"
        shutil.copytree(run, other, dirs_exist_ok=True)
        save_file(state, other / "network.safetensors", metadata={"about": json.dumps({**about, **changes})})
        assert main(["evaluate", str(other)]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_batches_are_those_that_there_are(tmp_path, capsys):
    given = ["gradients", "--out", str(tmp_path), "--batches", "7", *options("vanilla", **SETTINGS)]
    assert main([*given, "--data.train_limit", "100"]) == 0
    said = capsys.readouterr().out
    assert "on 1 more: " in said
    assert "cosine between 2 batches" in said


def test_a_threshold_that_norms_start_at_is_no_tip(monkeypatch):
    seen = []
    diagnose = lambda setup, batches, remedies: seen.append(remedies()) or Diagnosis  # noqa: E731
    monkeypatch.setattr(command, "diagnose_setup", diagnose)
    for norm in ("bn", "tdbn"):
        gradients(recipe_of("digits", "vanilla", {"network": {"norm": norm, "width": 2}}), 1)
    groups = [{remedy.group for remedy in remedies} for remedies in seen]
    assert groups[0] - groups[1] == {"threshold"}
    assert "decay" in groups[1]


def test_what_is_said_on_the_command_line_is_not_blamed_on_a_file(run, capsys):
    assert main(["evaluate", str(run), "--set", "data.test_limit=0"]) == 1
    said = capsys.readouterr().err
    assert "data.test_limit" in said
    assert "recipe.yaml" not in said
