"""The command gradients: its tables, verdict and remedies."""

import csv
import re
import shlex
import sys

import pytest

from shortcut_snn._utils.yaml_text import parse
from shortcut_snn.cli import main
from shortcut_snn.cli.gradients import Source, measure, recipe_remedies, remedies_for
from shortcut_snn.measurement.gradients import first_to_last_ratio
from shortcut_snn.neurons import use_backend
from shortcut_snn.recipes import changed, recipe_of
from shortcut_snn.recipes.building import load_data
from shortcut_snn.recipes.entries import from_dict
from shortcut_snn.recipes.runs import run_recipe
from shortcut_snn.training import RunFolder
from shortcut_snn.training.trainer import seeded

from ..registered import forgetting
from ..training.small import options, train

SETTINGS = {"training__epochs": 1, "neuron__surrogate__kind": "rectangle"}
FEW = {"data__batch_size": 10, "data__train_limit": 40, "network__time_steps": 1}
FEW_DATA = {"batch_size": 20, "train_limit": 40, "test_limit": 10}
CUSTOM_NEURONS = """
from torch import nn
from shortcut_snn import components
from shortcut_snn.neurons import LIF, Rectangle

@components.network("custom_neurons")
class CustomNeurons(nn.Module):
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


@pytest.fixture(autouse=True, scope="module")
def eager(denied):
    """Run neurons in plain PyTorch: remedies try many surrogates, and each is kernels to compile."""
    with use_backend("eager"):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradients") / "run"
    assert train(folder, **SETTINGS) == 0
    return folder


def rows(path):
    return list(csv.DictReader(path.open()))


def test_tables_verdict_and_remedies(tmp_path, capsys, full_pictures, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    wide = SETTINGS | FEW | {"neuron__surrogate__width": 4.0, "network__kind": "resnet18"}
    assert main(["gradients", "--out", str(tmp_path), "--batches", "1", *options(**wide)]) == 0
    output, progress = capsys.readouterr()
    assert re.search(r"measuring remedy (\d+) of \1 \.\.\.\r", progress), "all were measured"
    assert "vanishes: from layer4.1.spike2 back to stem.spike" in output
    tips = output.partition("try first:\n")[2].splitlines()
    assert "blocks (--network.block " in tips[0]
    assert "(--preset initialised)" in output
    assert "attach(" not in output, "a recipe has a preset for it"
    assert "does not promise accuracy" in output
    assert "with / without" in output
    tables = [line for line in output.splitlines() if line.startswith("|")]
    assert len(tables) > 30
    assert max(map(len, tables)) < 80, "wider than a terminal"
    assert (tmp_path / "gradients.png").stat().st_size > 10_000
    assert [row["layer"] for row in rows(tmp_path / "gradients.csv")][:2] == ["stem.conv", "layer1.0.conv1"]
    layers = rows(tmp_path / "layers.csv")
    assert len(layers) == 17
    assert layers[-1]["gain"] == ""


def test_what_is_not_measured_is_named(tmp_path, capsys):
    method = {"method__penalty": "{kind: firing_rate, target: 0.0}", "method__weight_bits": 4}
    assert main(["gradients", *options(**FEW, **method), "--out", str(tmp_path / "out")]) == 0
    assert "measured without method.penalty and method.weight_bits" in capsys.readouterr().out


def test_vanilla_has_no_second_column_and_uses_the_batches_there_are(tmp_path, capsys):
    words = ["gradients", "--out", str(tmp_path), "--batches", "7", *options("vanilla", **SETTINGS, **FEW)]
    assert main([*words, "--data.train_limit", "22"]) == 0
    output = capsys.readouterr().out
    assert "with / without" not in output
    assert "first layer / last, on other batches: " in output


def test_the_baseline_of_an_initialised_recipe_has_the_usual_start():
    """The gradient of ResNet-20 explodes, and initialised it does not."""
    small = {
        "network": {"kind": "resnet20", "width": 4, "time_steps": 2},
        "neuron": {"surrogate": {"kind": "rectangle", "width": 1.0}},
        "data": {"batch_size": 20, "train_limit": 40, "test_limit": 10},
    }
    initialised = measure(recipe_of("digits", "initialised", small), batches=1)
    ratios = {name: first_to_last_ratio(report.rms) for name, report in initialised.reports.items()}
    assert ratios["without"] > 10 * ratios["with"]
    assert initialised.diagnosis.verdict.distance < 1


def test_a_run_is_measured_with_its_weights(run, tmp_path, capsys):
    assert main(["gradients", "--out", str(tmp_path), "--run", str(run), "--batches", "1"]) == 0
    assert capsys.readouterr().out.startswith("resnet8 on digits, branches at stages")
    recipe = run_recipe(RunFolder(run))
    new, trained = measure(recipe, 1), measure(recipe, 1, RunFolder(run))
    assert new.reports["with"].rms != trained.reports["with"].rms
    written = {row["layer"]: float(row["with"]) for row in rows(tmp_path / "gradients.csv")}
    assert trained.reports["with"].rms == pytest.approx(written)


def test_the_weights_and_surrogates_that_training_starts_from_are_measured(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(first, "--preset", "initialised", **SETTINGS, **FEW) == 0
    assert train(second, "--start-from", str(first), **SETTINGS, **FEW, optimizer__lr=0.0) == 0
    expected = measure(run_recipe(RunFolder(first)), 1, RunFolder(first)).reports["with"].rms
    recipe = run_recipe(RunFolder(second))
    new, trained = measure(recipe, 1), measure(recipe, 1, RunFolder(second))
    assert new.reports["without"].rms == trained.reports["without"].rms == expected


def test_what_a_recipe_does_already_is_no_remedy():
    recipe = recipe_of("digits", "initialised", {"network": {"kind": "resnet8", "width": 2}}, {"data": FEW_DATA})
    with seeded(0):
        source = Source(load_data(recipe), None)
        task = source.task(recipe)
        batch = task.prepare_batch(source.data.sample(16))
        groups = {remedy.group for remedy in remedies_for(recipe, source, source.setup(recipe), [batch])}
    assert groups >= {"decay", "threshold", "preset"}
    assert not groups & {"initialise", "width"}


def test_remedies_for_a_run_are_other_methods_with_options_to_paste(run, capsys):
    recipe = run_recipe(RunFolder(run))
    with seeded(0):
        remedies = recipe_remedies(recipe, Source(load_data(recipe), RunFolder(run)))
    assert [remedy.group for remedy in remedies] == ["preset"]
    words = shlex.split(remedies[0].text.partition("(")[2].rstrip(")"))
    assert main(["gradients", "--run", str(run), *words, "--print-recipe"]) == 0
    assert from_dict(parse(capsys.readouterr().out)) == changed(recipe, "loss_sum")
    initialised = changed(recipe, "initialised")
    with seeded(0):
        remedies = recipe_remedies(initialised, Source(load_data(recipe), None))
    presets = [remedy.text for remedy in remedies if remedy.group == "preset"]
    assert ["loss_sum" in text for text in presets] == [True], "what is on already is not advised"
    assert main(["gradients", "--run", str(run), "--preset", "initialised", "--out", str(run.parent / "no")]) == 1
    assert "leave method.initialise out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "keyword"),
    [
        (["--out", "RUN", "--run", "RUN"], "holds a run"),
        (["--out", "OUT", "--batches=0"], "--batches"),
        (["--out", "OUT", "--run", "RUN", "--network.width=3"], "holds another one than the recipe builds"),
    ],
)
def test_invalid_arguments_write_nothing(run, tmp_path, capsys, words, keyword):
    before = (run / "gradients.csv").read_bytes()
    words = [word.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for word in words]
    assert main(["gradients", *words]) in (1, 2)
    assert keyword in capsys.readouterr().err
    assert (run / "gradients.csv").read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_no_entry_is_recommended_for_the_neurons_of_a_custom_network(tmp_path, capsys):
    file = tmp_path / "custom.py"
    file.write_text(CUSTOM_NEURONS)
    few = "--data.train_limit=30 --data.batch_size=10 --data.test_limit=20 --neuron.surrogate.width=2"
    words = ["--import", str(file), "--config", "digits", "--preset", "vanilla", "--network.kind", "custom_neurons"]
    words += shlex.split(few)
    with forgetting():
        assert main(["gradients", *words, "--out", str(tmp_path / "g"), "--batches", "1"]) == 0
    output = capsys.readouterr().out
    assert "'custom_neurons' has its own neurons" in output
    assert "surrogate width" in output
    assert "--neuron" not in output
