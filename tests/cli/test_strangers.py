"""One file of a person's own: what it registers can be trained, resumed, compared, looked at, tested and exported."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shortcut_snn import components, load
from shortcut_snn.cli import main
from shortcut_snn.components import Kind
from shortcut_snn.training.callbacks import SaveRun

from ..training.same import assert_same_run

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
OBJECTIVE = '''
from shortcut_snn import components

@components.objective("my_objective")
def deepest_branch(output, target, balance, criterion, *, power: float = 1.0):
    """The loss, and that of the deepest branch."""
    loss = criterion(output.main, target)
    return loss + balance**power * criterion(output.branches[-1], target) if output.branches else loss
'''
SCHEDULE = '''
from shortcut_snn import components

@components.branch_weight("my_schedule")
def square(step, total, *, initial: float = 0.5):
    """A parabola to 0."""
    return initial * (1 - step / total) ** 2
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
NEURON = '''
import torch
from shortcut_snn import components
from shortcut_snn.neurons import Neuron, Rectangle, Surrogate

class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, surrogate):
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.surrogate(ctx.saved_tensors[0]), None

@components.neuron("my_neuron")
class Adaptive(Neuron):
    """A neuron whose leak grows with its potential.

    Args:
        leak: at rest.
    """

    def __init__(self, leak: float = 0.5, threshold: float = 1.0, surrogate: Surrogate | None = Rectangle()):
        super().__init__(threshold, surrogate)
        self.leak = leak

    def stream(self, current, initial=None):
        membrane, spikes = torch.zeros_like(current[0]) if initial is None else initial, []
        for step in current.unbind(0):
            membrane = self.leak * membrane / (1 + membrane.abs()) + step
            spikes.append(Spike.apply(membrane - self.threshold, self.surrogate))
            membrane = membrane * (1 - spikes[-1])
        return torch.stack(spikes), membrane
'''
AUGMENTATION = '''
from dataclasses import dataclass
import numpy as np
from shortcut_snn import components

@components.augmentation("my_augmentation")
@dataclass(frozen=True)
class Negative:
    """Every other image as its negative."""

    share: int = 2

    def __call__(self, images, bits, colour):
        return np.where((bits % self.share == 0)[:, None, None, None], 255 - images, images)
'''
TASK = '''
import torch
from torch.nn import functional as F
from shortcut_snn import components
from shortcut_snn.training import Classification, Task

@components.task("my_task")
class Ranking(Classification):
    """Classes as a one-hot regression.

    Args:
        scale: of the target.
    """

    metric, higher_is_better, fraction = "mse", False, False

    def __init__(self, model, *, scale: float = 1.0, **options):
        super().__init__(model, **options)
        self.scale = scale

    def criterion(self, prediction, target):
        return F.mse_loss(prediction, self.scale * F.one_hot(target, prediction.shape[1]).float())

    evaluation_loss = criterion

    def metrics(self, prediction, target):
        return {"mse": self.criterion(prediction, target)}

    @property
    def chance(self):
        return None
'''
EXPORTER = '''
from dataclasses import dataclass
from typing import ClassVar
import torch
from shortcut_snn import components
from shortcut_snn.deploy import TorchRuntime

@components.exporter("my_export")
@dataclass(frozen=True)
class Plain:
    """Weights as torch has them."""

    file: ClassVar[str] = "weights.pt"
    step_file: ClassVar[str | None] = None
    summary: ClassVar[str] = "weights for torch.load()"

    def export(self, network, spec, path, streaming):
        torch.save(network.state_dict(), path)
        network.load_state_dict(torch.load(path, weights_only=True))
        return TorchRuntime(network, spec)
'''
# Small, of digits and a network of ours, but for what is the stranger's.
SMALL = {
    "data.train_limit": "60", "data.test_limit": "20", "data.batch_size": "20", "network.kind": "resnet8",
    "network.width": "2", "network.time_steps": "2", "training.epochs": "1",
}  # fmt: skip
OWN_DATA = {"data.kind": "my_data", "data.train_limit": None, "data.test_limit": None, "data.batch_size": "30"}
OWN_NETWORK = {"network.kind": "my_net", "network.width": "3"}


def words(changes=(), presets=("evolutionary",)):
    named = [part for preset in presets for part in ("--preset", preset)]
    entries = {key: value for key, value in (SMALL | dict(changes)).items() if value is not None}
    return named + [part for key, value in entries.items() for part in (f"--{key}", value)]


def forget():
    """Make this process what one is that has not imported the files of these tests."""
    for kind in (value for value in vars(components).values() if isinstance(value, Kind)):
        for name in [name for name in kind if name.startswith("my_")]:
            del kind[name]
    for name in [name for name in sys.modules if name.startswith("stranger")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def forgotten():
    forget()
    yield
    forget()


def one_line(capsys):
    said = capsys.readouterr().err
    assert said.startswith("shortcut-snn: error: "), said
    assert said.count("\n") == 1, said
    return said


CASES = {
    "surrogate": (SURROGATE, {"neuron.surrogate.kind": "my_surrogate", "neuron.surrogate.sigma": "0.4"}),
    "objective": (OBJECTIVE, {"method.objective.kind": "my_objective", "method.objective.power": "2"}),
    "branch weight": (
        SCHEDULE,
        {"method.branches.branch_weight.kind": "my_schedule", "method.branches.branch_weight.initial": "0.3"},
    ),
    "data set": (DATA, OWN_DATA),
    "neuron": (NEURON, {"neuron.kind": "my_neuron", "neuron.leak": "0.6"}),
    "augmentation": (AUGMENTATION, {"data.augment": "[crop, my_augmentation]"}),
    "task": (TASK, {"task.kind": "my_task", "task.scale": "2"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_component_of_ones_own_trains_and_is_tested(case, tmp_path, capsys):
    text, entries = CASES[case]
    file, run = tmp_path / "stranger.py", tmp_path / "run"
    file.write_text(text)
    named = ["--import", str(file)]
    assert main(["train", "--out", str(run), *words(entries), *named]) == 0
    result = json.loads((run / "result.json").read_text())
    said = capsys.readouterr().out
    assert f"test {result['metric']}, last epoch" in said
    assert main(["evaluate", str(run), *named]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    figure = result["test_last"][result["metric"]]
    assert said.endswith(f"{100 * figure:.2f} %" if result["fraction"] else f"{figure:.4g}")
    # Its options stand in the help, with what its docstring says.
    for key, value in entries.items():
        if value is not None and "augment" not in key:
            assert main(["train", *words(entries), *named, "--help-recipe", key.split(".")[0]]) == 0
            assert f"--{key} {value}" in capsys.readouterr().out
    # Another process does not know it.
    forget()
    assert main(["evaluate", str(run)]) == 1
    said = one_line(capsys)
    assert "unknown " in said
    assert "'my_" in said
    assert f"the run imported {file}: add --import {file}" in said


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A network's file, the words of its recipe, and a run."""
    forget()
    folder = tmp_path_factory.mktemp("network")
    file = folder / "stranger.py"
    file.write_text(NETWORK + DATA)
    given = [*words(OWN_NETWORK | OWN_DATA | {"training.epochs": "2"}), "--import", str(file)]
    assert main(["train", "--out", str(folder / "run"), *given]) == 0
    return file, given, folder / "run"


def test_a_network_of_ones_own_predicts(stranger, tmp_path, capsys):
    file, _, run = stranger
    image = np.full((8, 8), 30, np.uint8)
    image[:, 3] += 180
    Image.fromarray(image).save(tmp_path / "bar.png")
    assert main(["predict", str(run), str(tmp_path / "bar.png"), "--json", "--import", str(file)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    expected = load(run).logits(torch.from_numpy(image)[None]).softmax(-1)[0]
    assert found["class"] == ["lying", "standing"][expected.argmax()]
    assert found["probability"] == pytest.approx(expected.max().item())
    forget()
    assert main(["predict", str(run), str(tmp_path / "bar.png")]) == 1
    said = one_line(capsys)
    assert "unknown network" in said
    assert f"the run imported {file}: add --import {file}" in said


def test_the_run_says_what_was_imported(stranger):
    file, _, run = stranger
    (imported,) = json.loads((run / "environment.json").read_text())["imports"]
    assert imported["name"] == str(file)
    assert len(imported["sha256"]) == 64


def train_an_epoch(run, given, monkeypatch):
    """Begin a run that is killed behind its first epoch."""
    end = SaveRun.on_train_epoch_end

    def kill(self, trainer, module):
        end(self, trainer, module)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, "on_train_epoch_end", kill)
        with pytest.raises(RuntimeError, match="killed"):
            main(["train", "--out", str(run), *given])


def test_a_network_of_ones_own_resumes_bit_identically(stranger, tmp_path, monkeypatch, capsys):
    file, given, run = stranger
    train_an_epoch(tmp_path / "parts", given, monkeypatch)
    forget()
    capsys.readouterr()
    assert main(["train", "--out", str(tmp_path / "parts"), *given[:-2], "--resume"]) == 2
    assert f"the run imported {file}: add --import {file}" in one_line(capsys)
    assert main(["train", "--config", str(tmp_path / "parts" / "recipe.yaml"), "--out", str(tmp_path / "parts"),
                 "--resume", "--import", str(file)]) == 0  # fmt: skip
    assert_same_run(tmp_path / "parts", run)


def test_calibrated_surrogates_of_another_library_resume_bit_identically(tmp_path, monkeypatch, capsys):
    file = tmp_path / "stranger.py"
    neuron = "neuron.LIFNode(step_mode='m', surrogate_function=surrogate.ATan(0.5))"
    imported = "from spikingjelly.activation_based import neuron, surrogate\n"
    file.write_text(imported + NETWORK.replace("make_neuron()\n", f"{neuron}\n") + DATA)
    given = [*words(OWN_NETWORK | OWN_DATA | {"training.epochs": "2"}, ["calibrated"]), "--import", str(file)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", "--out", str(whole), *given]) == 0
    widths = json.loads((whole / "surrogates.json").read_text())
    assert list(widths) == ["layer1.neuron", "layer2.neuron"]
    assert 0.5 not in widths.values()
    train_an_epoch(parts, given, monkeypatch)
    assert main(["train", "--out", str(parts), *given, "--resume"]) == 0
    assert_same_run(parts, whole)


def test_a_network_of_ones_own_is_compared(stranger, tmp_path, capsys):
    _, given, _ = stranger
    assert main(["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", "evolutionary", "--seeds", "1",
                 "--jobs", "2", "--training.threads", "1", *given[2:]]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert re.search(r"\| evolutionary \| 1 +\|", said)


def test_runs_of_another_file_are_named_in_a_comparison(stranger, tmp_path, capsys):
    original, given, _ = stranger
    file = tmp_path / "stranger.py"
    file.write_text(original.read_text())
    given, folder = [*given[2:-1], str(file)], tmp_path / "c"
    command = [
        "compare",
        "--out",
        str(folder),
        "--seeds",
        "1",
        *given,
        "--training.epochs",
        "1",
        "--methods",
        "vanilla",
    ]
    forget()
    assert main(command) == 0
    assert "has changed" not in capsys.readouterr().out
    forget()
    file.write_text(original.read_text().replace("(0, 60,", "(0, 90,"))
    assert main([*command, "evolutionary"]) == 0
    said = capsys.readouterr().out
    run = folder / "vanilla" / "seed0"
    assert f"{file} has changed" in said
    assert str(run) in said
    forget()
    assert (
        main(["train", "--config", str(run / "recipe.yaml"), "--resume", "--out", str(run), "--import", str(file)]) == 0
    )
    said = capsys.readouterr().out
    assert "is finished already" in said
    assert f"{file} is no longer the file that the run was started with" in said


@pytest.mark.parametrize("command", ["gradients", "evaluate", "energy", "export", "report"])
def test_every_command_knows_it_and_says_so_if_not(stranger, tmp_path, capsys, command):
    if command == "report":
        pytest.importorskip("shortcut_snn.cli.report")
    file, _, finished = stranger
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    given = {
        "gradients": ["--run", str(run), "--out", str(tmp_path / "g")],
        "export": [str(run), "--to", "safetensors", "--images", "20"],
    }.get(command, [str(run)])
    if command != "report":
        forget()
        assert main([command, *given]) == 1
        assert "unknown data 'my_data'" in (said := one_line(capsys))
        assert f"the run imported {file}: add --import {file}" in said
    assert main([command, *given, *(["--import", str(file)] if command != "report" else [])]) == 0
    said = capsys.readouterr().out
    expected = {
        "gradients": "my_net on my_data, branches at stages, logit_sum, lambda linear from 0.25",
        "evaluate": "layer2.neuron",
        "energy": "layer1.conv",
        "export": "20 of 20 predictions agree",
        "report": "report.html",
    }
    assert expected[command] in said


@pytest.mark.parametrize("to", ["onnx", "nir", "torch-export"])
def test_it_is_exported_in_other_formats(stranger, tmp_path, capsys, to):
    file, _, run = stranger
    command = ["export", str(run), "--to", to, "--images", "20", "--out", str(tmp_path), "--import", str(file)]
    status = main(command)
    said = capsys.readouterr()
    # What NIR has no words for, it says.
    assert (status, "20 of 20 predictions agree" in said.out) == (0, True) or (
        to == "nir" and "nir" in said.err.lower()
    )


def test_an_export_format_of_ones_own(stranger, tmp_path, capsys):
    file, _, run = stranger
    mine = tmp_path / "stranger_format.py"
    mine.write_text(EXPORTER)
    command = ["export", str(run), "--to", "my_export", "--images", "20", "--out", str(tmp_path / "out")]
    assert main([*command, "--import", str(file)]) in (1, 2)
    assert "unknown exporter 'my_export'" in one_line(capsys)
    assert main([*command, "--import", str(file), "--import", str(mine)]) == 0
    assert "weights.pt: weights for torch.load()" in capsys.readouterr().out
    assert (tmp_path / "out" / "weights.pt").is_file()


def test_an_installed_package_needs_no_import(tmp_path, capsys, monkeypatch):
    place = tmp_path / "site"
    about = place / "strangers-1.5.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text("[shortcut_snn.components]\nanything = stranger_package\n")
    (place / "stranger_package.py").write_text(SURROGATE)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(place))
        assert main(["components", "surrogate"]) == 0
        assert "| my_surrogate" in (said := capsys.readouterr().out)
        assert "sigma=0.5" in said
        assert main(["train", "--out", str(run), *words(CASES["surrogate"][1])]) == 0
        assert main(["evaluate", str(run)]) == 0
    imports = json.loads((run / "environment.json").read_text())["imports"]
    assert imports == [{"name": "stranger_package", "package": "strangers", "version": "1.5"}]
    forget()
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 1
    assert "the run imported the installed package strangers 1.5: install it" in one_line(capsys)


def test_an_installed_package_that_is_broken_is_named(tmp_path, capsys, monkeypatch):
    about = tmp_path / "strangers-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text("[shortcut_snn.components]\nanything = stranger_package\n")
    (tmp_path / "stranger_package.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["train", "--out", str(tmp_path / "run"), *words()]) == 2
    assert "stranger_package cannot be imported: ZeroDivisionError" in one_line(capsys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from shortcut_snn import components\n@components.surrogate('rectangle')\ndef mine(v): return v\n",
         "the surrogate 'rectangle' exists already"),
        ("from shortcut_snn import components\n@components.surrogat('mine')\ndef mine(v): return v\n", "surrogat"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_imported_says_why(tmp_path, capsys, text, said):
    file = tmp_path / "stranger.py"
    file.write_text(text)
    assert main(["train", "--out", str(tmp_path / "run"), *words(), "--import", str(file)]) == 2
    line = one_line(capsys)
    assert f"{file} cannot be imported: " in line
    assert said in line
    assert "stranger" not in sys.modules


@pytest.mark.parametrize("returned", ["3", "(Bars(4, 0),)", "(Bars(4, 0), Bars(0, 0))"])
def test_what_is_no_data_is_named(tmp_path, capsys, returned):
    file = tmp_path / "stranger.py"
    file.write_text(DATA.replace("return as_data(", f"return {returned}\n        return as_data("))
    assert main(["train", "--out", str(tmp_path / "run"), *words(OWN_DATA), "--import", str(file)]) == 1
    assert "load() of the data 'my_data': " in one_line(capsys)


def test_a_package_that_a_file_needs_is_not_one_of_ours(tmp_path, capsys):
    file = tmp_path / "stranger.py"
    file.write_text(DATA.replace("description =", "import no_such_package\n        description ="))
    assert main(["train", "--out", str(tmp_path / "run"), *words(OWN_DATA), "--import", str(file)]) == 1
    assert one_line(capsys).endswith(f"no_such_package is not installed; {file} imports it: install it\n")


def test_a_load_without_time_steps_is_told_what_it_takes(tmp_path, capsys):
    file = tmp_path / "stranger.py"
    file.write_text(re.sub(r"def load\(self.*\):", "def load(self):", DATA))
    assert main(["train", "--out", str(tmp_path / "run"), *words(OWN_DATA), "--import", str(file)]) == 1
    assert "write def load(self, time_steps=None)" in one_line(capsys)
