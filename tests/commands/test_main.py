"""Mistakes of a user: one clear line, an exit status, nothing half-written, no traceback."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_snn.cli import built_in_recipes, main

from .small import options, train


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("shortcut-snn: error: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network__time_steps": 0}, "network.time_steps"),
        ({"data__batch_size": 0}, "batch_size"),
        ({"train__epochs": 0}, "train.epochs"),
        ({"optimizer__lr": -1}, "optimizer.lr"),
        ({"optimizer__lr": "fast"}, "optimizer.lr"),
        ({"method__initial": -0.5}, "method.initial"),
        ({"method__name": "magic"}, "method.name"),
        ({"network__name": "resnet99"}, "network.name"),
        ({"neuron__surrogate__width": 0}, "neuron.surrogate.width"),
        ({"data__name": "imagine"}, "data.name"),
        ({"network__depth": 3}, "network.depth"),
        ({"method__name": "sew", "network__block": "ms"}, "network.block: method sew means sew, not ms"),
        ({"method__name": "tet", "neuron__gradient": "rate"}, "no logits of single time steps"),
        ({"method__name": "rate", "method__taps": "blocks"}, "method.taps makes no difference to rate"),
    ],
)
def test_bad_recipe(tmp_path, capsys, changes, said):
    assert train(tmp_path / "run", **changes) in (1, 2)
    assert said in one_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method__taps": "[layer1,layr2]"}, "no submodule 'layr2'"),
        ({"neuron__tau": 2}, "tau"),
        ({"neuron__threshold": 0}, "threshold"),
        ({"data__name": "cifar10", "data__root": "nowhere"}, "nowhere"),
        ({"data__name": "folder", "data__root": "nowhere"}, "nowhere"),
        ({"data__name": "npz", "data__root": "nowhere.npz"}, "nowhere.npz"),
        ({"train__accelerator": "abacus"}, "abacus"),
        ({"method__name": "tet", "method__tet__weight": 2}, "TET's weight of the regulariser"),
        ({"method__name": "distillation", "method__distillation__temperature": 0}, "temperature"),
        ({"method__name": "sew", "network__name": "vgg11"}, "a VGG has no residual blocks"),
    ],
)
def test_bad_thing(tmp_path, capsys, changes, said):
    assert train(tmp_path / "run", **changes) == 1
    assert said in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_wrong_tap_lists_the_names_there_are(tmp_path, capsys):
    assert train(tmp_path / "run", method__taps="[layr2]") == 1
    said = one_line(capsys)
    assert "did you mean 'layer2'" in said
    assert "layer1.0.conv1" in said


def test_unknown_key_in_a_file(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text("train:\n  epochs: 1\n  epocs: 2\n")
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "epocs" in one_line(capsys)


def test_recipe_that_is_no_yaml(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text("train: [1, 2\n")
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    one_line(capsys)


def test_missing_recipe_lists_the_built_in_ones(tmp_path, capsys):
    assert main(["train", "--config", "digit", "--out", str(tmp_path / "run")]) == 2
    assert "digits" in one_line(capsys)


def test_truncated_npz(tmp_path, capsys):
    path = tmp_path / "data.npz"
    images = np.zeros((40, 8, 8), np.uint8)
    np.savez(path, x_train=images, y_train=np.arange(40) % 2, x_test=images, y_test=np.arange(40) % 2)
    path.write_bytes(path.read_bytes()[:-200])
    assert train(tmp_path / "run", data__name="npz", data__root=path) == 1
    assert "data.npz" in one_line(capsys)


def test_nan_loss_names_the_step(tmp_path, capsys):
    """A learning rate that overflows: the run stops by itself and says where."""
    assert train(tmp_path / "run", optimizer__name="sgd", optimizer__lr=1e30) == 1
    assert "at step" in one_line(capsys)


def test_truncated_checkpoint(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(folder) == 0
    (folder / "result.json").unlink()
    checkpoint = folder / "checkpoint.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    capsys.readouterr()
    assert train(folder, "--resume") == 1
    assert "not a whole checkpoint" in one_line(capsys)


class Malice:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_malicious_checkpoint_runs_no_code(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(folder) == 0
    (folder / "result.json").unlink()
    victim = tmp_path / "victim"
    torch.save({"state_dict": Malice(victim)}, folder / "checkpoint.ckpt")
    capsys.readouterr()
    assert train(folder, "--resume") == 1
    assert "not a whole checkpoint" in one_line(capsys)
    assert not victim.exists()
    # The test would notice: unpickling it without protection does run the code.
    pickle.loads(pickle.dumps(Malice(victim)))
    assert victim.exists()


def test_network_file_of_another_network(tmp_path, capsys):
    from shortcut_snn.deploy.weights import read_network, save_network

    folder = tmp_path / "run"
    assert train(folder) == 0
    _, about = read_network(folder / "network.safetensors")
    save_network(torch.nn.Linear(2, 2), folder / "network.safetensors", about)
    capsys.readouterr()
    assert main(["evaluate", str(folder)]) == 1
    assert "does not fit the network" in one_line(capsys)


def test_evaluate_without_a_run(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "holds no run" in one_line(capsys)


def test_help_imports_no_torch():
    code = "import sys; from shortcut_snn.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules, 'lightning' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False False"
    assert "--method.taps" in done.stdout


def test_built_in_recipes_are_recipes():
    from shortcut_snn.training import recipe_io

    assert "digits" in built_in_recipes()
    for path in built_in_recipes().values():
        recipe_io.read(path)


def test_recipes_lists_them(capsys):
    assert main(["recipes"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in built_in_recipes())


def test_gradients(tmp_path, capsys):
    assert main(["gradients", "--out", str(tmp_path / "g"), *options()]) == 0
    said = capsys.readouterr().out
    assert "with / without" in said
    assert "layer1.0.conv1" in said
    assert (tmp_path / "g" / "gradients.png").stat().st_size > 10_000
    lines = (tmp_path / "g" / "gradients.csv").read_text().splitlines()
    assert len(lines) == 1 + 19, "a row for each of ResNet-20's convolutions"
