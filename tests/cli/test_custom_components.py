"""Custom components: what one file registers can be trained, resumed, diagnosed, tested and exported.

``docs/extend.md`` trains one of each kind.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shortcut_snn import attach, load
from shortcut_snn._utils.yaml_text import parse
from shortcut_snn.cli import main
from shortcut_snn.components.registry import KINDS
from shortcut_snn.recipes import build, import_components, recipe_of

from ..training.same import assert_same_run
from ..training.small import error_line, killed_after_first_epoch

NETWORK = '''
import torch
from torch import nn
from shortcut_snn import components

class Layer(nn.Module):
    def __init__(self, inputs, outputs, make_neuron):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.neuron = make_neuron()

    def forward(self, x):
        return self.neuron(self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]))

@components.network("my_net")
class Net(nn.Module):
    """Three layers.

    Args:
        width: channels.
        time_steps: T.
    """

    def __init__(self, num_classes, in_channels, make_neuron, *, width: int = 4, time_steps: int = 2):
        super().__init__()
        self.time_steps = time_steps
        self.layer1 = Layer(in_channels, width, make_neuron)
        self.layer2 = Layer(width, width, make_neuron)
        self.layer3 = Layer(width, width, make_neuron)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x):
        if x.dim() == 4:
            x = x.expand(self.time_steps, *x.shape)
        return self.classifier(self.layer3(self.layer2(self.layer1(x))).mean((0, 3, 4)))
'''
SURROGATE = '''
import torch
from shortcut_snn import components

@components.surrogate("my_surrogate")
def gaussian(v, *, sigma: float = 0.5):
    """A Gaussian.

    Args:
        sigma: standard deviation.
    """
    return torch.exp(-((v / sigma) ** 2) / 2)
'''
DATA = '''
from dataclasses import dataclass
import torch
from shortcut_snn import components
from shortcut_snn.data import as_data

class Bars(torch.utils.data.Dataset):
    def __init__(self, samples, first):
        self.samples, self.first, self.classes = samples, first, ["lying", "standing"]

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        number = self.first + index
        image = torch.randint(0, 60, (1, 8, 8), dtype=torch.uint8)
        bar = image[:, number % 8] if number % 2 == 0 else image[:, :, number % 8]
        bar += 180
        return image, number % 2

@components.data("my_data")
@dataclass(frozen=True)
class BarsData:
    """Bars that lie or stand.

    Args:
        samples: of training.
        batch_size: in a batch.
    """

    samples: int = 60
    batch_size: int = 20

    def load(self, time_steps=None):
        description = {"mean": [0.2], "std": [0.3], "kind": "static"}
        return as_data((Bars(self.samples, 0), Bars(40, 1000)), batch_size=self.batch_size, description=description)
'''
SMALL = {
    "data.train_limit": "60", "data.test_limit": "20", "data.batch_size": "20", "network.kind": "resnet8",
    "network.width": "2", "network.time_steps": "2", "training.epochs": "1",
}  # fmt: skip
CUSTOM_SURROGATE = {"neuron.surrogate.kind": "my_surrogate", "neuron.surrogate.sigma": "0.4"}
CUSTOM_DATA = {"data.kind": "my_data", "data.train_limit": None, "data.test_limit": None, "data.batch_size": "30"}
CUSTOM_NETWORK = {"network.kind": "my_net", "network.width": "3"}


def recipe_options(changes=(), presets=("evolutionary",)):
    named = [part for preset in presets for part in ("--preset", preset)]
    entries = {key: value for key, value in (SMALL | dict(changes)).items() if value is not None}
    return named + [part for key, value in entries.items() for part in (f"--{key}", value)]


def forget():
    """Unregister and unload what the files of these tests define, as in a new process."""
    for kind in KINDS.values():
        for name in [name for name in kind if name.startswith("my_")]:
            del kind.components[name]
    for name in [name for name in sys.modules if name.startswith("custom")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def forgotten():
    forget()
    yield
    forget()


def test_help_describes_options_of_a_custom_component(tmp_path, capsys):
    file = tmp_path / "custom.py"
    file.write_text(SURROGATE)
    options = recipe_options(CUSTOM_SURROGATE)
    assert main(["train", *options, "--import", str(file), "--help-recipe", "neuron"]) == 0
    assert "--neuron.surrogate.sigma 0.4 (float)\n    standard deviation." in capsys.readouterr().out


@pytest.fixture(scope="module")
def custom(tmp_path_factory):
    """The file of a custom network and data, the options of its recipe, and a run."""
    forget()
    folder = tmp_path_factory.mktemp("my network")
    file = folder / "custom.py"
    file.write_text(NETWORK + DATA)
    options = [*recipe_options(CUSTOM_NETWORK | CUSTOM_DATA | {"training.epochs": "2"}), "--import", str(file)]
    assert main(["train", "--out", str(folder / "run"), *options]) == 0
    return file, options, folder / "run"


def test_a_custom_network_predicts(custom, tmp_path, capsys):
    file, _, run = custom
    image = np.full((8, 8), 30, np.uint8)
    image[:, 3] += 180
    Image.fromarray(image).save(tmp_path / "bar.png")
    assert main(["predict", str(run), str(tmp_path / "bar.png"), "--json", "--import", str(file)]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)
    expected = load(run).logits(torch.from_numpy(image)[None]).softmax(-1)[0]
    assert prediction["class"] == ["lying", "standing"][expected.argmax()]
    assert prediction["probability"] == pytest.approx(expected.max().item())
    forget()
    assert main(["predict", str(run), str(tmp_path / "bar.png")]) == 1
    assert f"add --import {shlex.quote(str(file))}" in error_line(capsys)


def test_a_network_that_returns_every_time_step_is_refused_with_what_to_return(tmp_path, capsys):
    file = tmp_path / "custom.py"
    file.write_text(NETWORK.replace("mean((0, 3, 4)))", "mean((3, 4)).transpose(0, 1))") + DATA)
    options = recipe_options(CUSTOM_NETWORK | CUSTOM_DATA, ["vanilla"])
    assert main(["train", "--out", str(tmp_path / "run"), *options, "--import", str(file)]) == 1
    assert "forward() loop over time and return a prediction for each sample" in error_line(capsys)


def test_a_custom_network_has_the_branches_that_are_asked_for(custom, capsys):
    file, _, _ = custom
    words = ["train", "--config", "digits", "--network.kind", "my_net", "--import", str(file), "--print-recipe"]
    for preset, branches in (([], None), (["--preset", "evolutionary"], "stages")):
        assert main([*words, *preset]) == 0
        printed = parse(capsys.readouterr().out)["method"]["branches"]
        assert (printed and printed["taps"]) == branches


@pytest.mark.parametrize(("taps", "count"), [("stages", 3), ("blocks", 3), (2, 2)])
def test_a_custom_network_without_stages_has_the_taps_of_attach(tmp_path, taps, count):
    file = tmp_path / "custom.py"
    file.write_text(NETWORK.replace("layer1", "first").replace("layer2", "second").replace("layer3", "third") + DATA)
    import_components([str(file)])
    recipe = recipe_of({"network": "my_net", "data": "my_data", "method": {"branches": {"taps": taps}}})
    task, data = build(recipe)
    example, labels = task.prepare_batch(data.sample(5))
    attached = attach(task.model.network, count if isinstance(taps, int) else "auto", example=example, labels=labels)
    assert task.model.taps.names == attached.taps.names
    assert len(task.model.taps.names) <= count


def test_a_custom_network_resumes_bit_identically(custom, tmp_path, monkeypatch, capsys):
    file, options, run = custom
    imports = json.loads((run / "environment.json").read_text())["imports"]
    assert [(record["name"], len(record["sha256"])) for record in imports] == [(str(file), 64)]
    with killed_after_first_epoch(monkeypatch):
        main(["train", "--out", str(tmp_path / "parts"), *options])
    forget()
    capsys.readouterr()
    assert main(["train", "--out", str(tmp_path / "parts"), *options[:-2], "--resume"]) == 2
    assert f"add --import {shlex.quote(str(file))}" in error_line(capsys)
    assert main(["train", "--config", str(tmp_path / "parts" / "recipe.yaml"), "--out", str(tmp_path / "parts"),
                 "--resume", "--import", str(file)]) == 0  # fmt: skip
    assert_same_run(tmp_path / "parts", run)
    assert "changed since" not in capsys.readouterr().out
    file.write_text(file.read_text() + "\n# changed\n")
    assert main(["train", "--out", str(tmp_path / "parts"), *options, "--resume"]) == 0
    assert f"{file} changed since the run started" in capsys.readouterr().out


def test_third_party_surrogates_that_were_set_resume_bit_identically(tmp_path, monkeypatch):
    file = tmp_path / "custom.py"
    neuron = "neuron.LIFNode(step_mode='m', surrogate_function=surrogate.ATan(0.5))"
    imports = "from spikingjelly.activation_based import neuron, surrogate\n"
    file.write_text(imports + NETWORK.replace("make_neuron()\n", f"{neuron}\n") + DATA)
    entries = CUSTOM_NETWORK | CUSTOM_DATA | {"training.epochs": "2"}
    options = [*recipe_options(entries, ["initialised_loss_sum"]), "--import", str(file)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", "--out", str(whole), *options]) == 0
    surrogates = json.loads((whole / "surrogates.json").read_text())
    assert all(entries["factor"] != 1 for entries in list(surrogates.values())[:-1])
    with killed_after_first_epoch(monkeypatch):
        main(["train", "--out", str(parts), *options])
    assert main(["train", "--out", str(parts), *options, "--resume"]) == 0
    assert_same_run(parts, whole)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("gradients", "my_net on my_data, branches at stages, logit_sum, lambda linear from 0.25"),
        ("energy", "layer1.conv"),
        ("export", "20 of 20 predictions agree"),
    ],
)
def test_commands_need_the_import(custom, tmp_path, capsys, command, expected):
    file, _, finished = custom
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    words = {
        "gradients": ["gradients", "--run", str(run), "--out", str(tmp_path / "g")],
        "export": ["export", str(run), "--to", "safetensors", "--images", "20"],
    }.get(command, [command, str(run)])
    forget()
    assert main(words) == 1
    message = error_line(capsys)
    assert "'my_data'" in message
    assert f"add --import {shlex.quote(str(file))}" in message
    assert main([*words, "--import", str(file)]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("import no_such_module", "no_such_module"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("class Odd(BaseException): pass\nraise Odd", "Odd"),
        ("from shortcut_snn import components\n@components.surrogate('rectangle')\ndef mine(v): return v\n",
         "'rectangle'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_imported_is_named(tmp_path, capsys, text, keyword):
    file = tmp_path / "custom.py"
    file.write_text(text)
    assert main(["train", "--out", str(tmp_path / "run"), *recipe_options(), "--import", str(file)]) == 2
    message = error_line(capsys)
    assert f"{file} cannot be imported" in message
    assert keyword in message
    assert "custom" not in sys.modules


@pytest.mark.parametrize(
    ("old", "new", "keyword"),
    [
        ("return as_data(", "return 3\n        return as_data(", "load() of the data 'my_data'"),
        ("return as_data(", "return (Bars(4, 0),)\n        return as_data(", "load() of the data 'my_data'"),
        ("description =", "import no_such_package\n        description =", "no_such_package is not installed"),
        ("def load(self, time_steps=None):", "def load(self):", "write def load(self, time_steps=None)"),
    ],
)
def test_mistakes_in_custom_data_are_named(tmp_path, capsys, old, new, keyword):
    file = tmp_path / "custom.py"
    file.write_text(DATA.replace(old, new))
    options = [*recipe_options(CUSTOM_DATA), "--import", str(file)]
    assert main(["train", "--out", str(tmp_path / "run"), *options]) == 1
    assert keyword in error_line(capsys)
