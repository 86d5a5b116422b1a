"""Mistakes of a user: one clear line, an exit status, nothing half-written, no traceback; and what commands list."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from shortcut_snn.cli import main
from shortcut_snn.cli._main import commands
from shortcut_snn.recipes import PRESETS, recipe_of
from shortcut_snn.recipes.entries import built_in

from ..training.small import train


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
        ({"training__epochs": 0}, "training.epochs"),
        ({"optimizer__lr": -1}, "optimizer: Invalid learning rate: -1"),
        ({"optimizer__lr": "fast"}, "optimizer.lr"),
        ({"method__branches__schedule__initial": -0.5}, "method.branches.schedule"),
        ({"preset": "magic"}, "no recipe or preset 'magic'"),
        ({"network__kind": "resnet99"}, "network.kind"),
        ({"neuron__surrogate__width": 0}, "neuron.surrogate"),
        ({"neuron__decay": 2}, "neuron.decay"),
        ({"neuron__threshold": 0}, "neuron.threshold"),
        ({"data__kind": "imagine"}, "data.kind"),
        ({"network__depth": 3}, "network.depth"),
        ({"preset": "tet", "method__gradient__kind": "rate"}, "no logits of single time steps"),
        ({"preset": "tet", "method__objective__weight": 2}, "weight, of TET's regulariser"),
        ({"preset": "distillation", "method__objective__temperature": 0}, "temperature"),
        ({"preset": "tet", "method__branches__taps": "blocks"}, "tet has no use for branches"),
        ({"preset": "sew", "network__kind": "vgg11", "network__block": "sew"}, "'vgg11' has no entry 'block'"),
        ({"data__kind": "cifar10", "data__augment": "[blur]"}, "augmentation 'blur'"),
        ({"neuron__kind": "plif", "neuron__decay": 1}, "neuron.decay"),
    ],
)
def test_bad_recipe(tmp_path, capsys, changes, said):
    assert train(tmp_path / "run", **changes) == 2
    assert said in one_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method__branches__taps": "[layer1,layr2]"}, "no submodule 'layr2'"),
        ({"data__kind": "cifar10", "data__root": "nowhere"}, "nowhere"),
        ({"data__kind": "folder", "data__root": "nowhere"}, "nowhere"),
        ({"data__kind": "npz", "data__root": "nowhere.npz"}, "nowhere.npz"),
        ({"training__accelerator": "abacus"}, "abacus"),
        ({"preset": "rate", "neuron__kind": "plif"}, "no gradient for"),
    ],
)
def test_bad_thing(tmp_path, capsys, changes, said):
    assert train(tmp_path / "run", **changes) == 1
    assert said in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_wrong_tap_lists_the_names_there_are(tmp_path, capsys):
    assert train(tmp_path / "run", method__branches__taps="[layr2]") == 1
    said = one_line(capsys)
    assert "did you mean 'layer2'" in said
    assert "layer1.0.conv1" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n  epochs: 1\n  epocs: 2\n", "epocs"),
        ("training: [1, 2\n", "recipe.yaml is not YAML"),
        ("import: mine.py\n", "the recipe has no entry 'import'"),
        ("imports: [mine.py]\n", "the recipe has no entry 'imports'"),
        ("network: {class_path: mine.Network, init_args: {}}\n", "network 'resnet18' has no entry 'class_path'"),
        ("network: mine.Network\n", "unknown network 'mine.Network'"),
        ("network: {kind: resnet18, import: mine.py}\n", "network 'resnet18' has no entry 'import'"),
        ("neuron: !!python/object/apply:os.system ['true']\n", "recipe.yaml is not YAML"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, capsys, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('a recipe has imported me')")
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert said in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_missing_recipe_lists_the_built_in_ones(tmp_path, capsys):
    assert main(["train", "--config", "digit", "--out", str(tmp_path / "run")]) == 2
    said = one_line(capsys)
    assert "did you mean digits?" in said
    assert "cifar10-small" in said
    assert "evolutionary" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "no command 'trian' (did you mean train?): use one of compare, "),
        ([], "say what to do: one of compare, "),
        (["--traceback"], "required: COMMAND"),
        (["train"], "required: --out"),
        (["train", "--out", "x", "--lr", "0.1"], "no option --lr (did you mean --optimizer.lr?)"),
        (["train", "--out", "x", "--seed", "3"], "(did you mean --data.seed or --training.seed?)"),
        (["train", "--out", "x", "--method", "calibrated"], "a method by its name is a preset: --preset calibrated"),
        (["train", "--out", "x", "--network.name", "resnet34"], "has no entry 'name' (did you mean kind?)"),
        (["train", "--out", "x", "--epochs=3"], "no option --epochs (did you mean --training.epochs?)"),
        (["train", "--out", "x", "--network.widht", "3"], "'widht' (did you mean width?)"),
        (["train", "--out", "x", "--netwrok.width", "3"], "no option --netwrok.width (did you mean --network.width?)"),
        (["train", "--out", "x", "--network.width"], "--network.width needs a value"),
        (["train", "--out", "x", "--network.width", "--resume"], "--network.width needs a value"),
        (["train", "--out", "x", "--config"], "argument --config/--preset: expected one argument"),
        (["train", "--out", "x", "--network.width", "16,32"], "network.width should be an integer, got '16,32'"),
        (["train", "--out", "x", "--optimizer.lr", "fast"], "optimizer.lr should be a number, got 'fast'"),
        (
            ["train", "--out", "x", "--method.branches.taps", "block"],
            "taps should be 'stages' or 'blocks' or a list (did you mean blocks?), got 'block'",
        ),
        (["train", "--out", "x", "--network.block", "basics"], "'ms' or 'plain' (did you mean basic?), got 'basics'"),
        (["compare", "--out", "x", "--grid", "lr=1,2"], "no entry 'lr' (did you mean optimizer.lr?)"),
        (["train", "--out", "x", "--", "--network.width", "3"], "no option --network.width"),
        (["train", "digits", "--out", "x"], "no argument 'digits' is expected here"),
        (["train", "--out", "x", "--import", "nowhere.py"], "there is no file nowhere.py"),
        (["train", "--out", "x", "--preset", "evolutionry"], "(did you mean evolutionary?)"),
        (["train", "--netwrok", "vgg11", "--preset", "x", "--help"], "no recipe or preset 'x'"),
        (["evaluate"], "required: run"),
        (["evaluate", "x", "--data.root", "y"], "unrecognized arguments: --data.root y"),
        (["evaluate", "x", "--weights", "worst"], "invalid choice: 'worst'"),
        (["components", "surogate"], "no kind 'surogate' (did you mean surrogate?)"),
        (["compare", "--out", "x", "--methods", "vanila"], "no recipe or preset 'vanila' (did you mean vanilla?)"),
    ],
)
def test_words_that_make_no_sense(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_truncated_npz(tmp_path, capsys):
    path = tmp_path / "data.npz"
    images = np.zeros((40, 8, 8), np.uint8)
    np.savez(path, x_train=images, y_train=np.arange(40) % 2, x_test=images, y_test=np.arange(40) % 2)
    path.write_bytes(path.read_bytes()[:-200])
    assert train(tmp_path / "run", data__kind="npz", data__root=path) == 1
    assert "data.npz" in one_line(capsys)


def test_nan_loss_names_the_step(tmp_path, capsys):
    """A learning rate that overflows: the run stops by itself and says where."""
    assert train(tmp_path / "run", optimizer__kind="sgd", optimizer__lr=1e30, optimizer__weight_decay=1) == 1
    assert "at step" in one_line(capsys)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("main") / "run"
    assert train(folder, training__epochs=1) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def resumed(run):
    (run / "result.json").unlink()
    return train(run, "--resume", training__epochs=1)


def test_truncated_checkpoint(run, capsys):
    checkpoint = run / "checkpoint.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert resumed(run) == 1
    assert "not a checkpoint" in one_line(capsys)


class Malice:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_malicious_checkpoint_runs_no_code(run, tmp_path, capsys):
    victim = tmp_path / "victim"
    torch.save({"state_dict": Malice(victim)}, run / "checkpoint.ckpt")
    assert resumed(run) == 1
    said = one_line(capsys)
    assert "not a checkpoint" in said
    # Torch's own message says how to read it all the same.
    assert "weights_only" not in said
    assert not victim.exists()
    # The test would notice: unpickling it without protection does run the code.
    pickle.loads(pickle.dumps(Malice(victim)))
    assert victim.exists()


def test_network_file_of_another_network(run, capsys):
    from shortcut_snn.deploy import read_network, save_network

    _, about = read_network(run / "network.safetensors")
    save_network(torch.nn.Linear(2, 2), run / "network.safetensors", about)
    assert main(["evaluate", str(run)]) == 1
    assert "does not fit the network" in one_line(capsys)


def test_evaluate_without_a_run(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "holds no run" in one_line(capsys)


# What is asked for and not trained.


def test_recipes_lists_them(capsys):
    assert main(["recipes"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*built_in(), *PRESETS))


@pytest.mark.parametrize("name", commands())
def test_help(name, capsys):
    try:
        status = main([name, "--help"])
    except SystemExit as left:
        status = left.code
    assert status == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: shortcut-snn {name}")
    if name in ("train", "compare", "gradients"):
        assert "  --training.epochs (int; 10)\n      number of passes over the training set." in said
        assert "  --neuron.surrogate.kind rectangle\n" in said
        assert "One of: rectangle, triangle," in said


def test_help_of_everything(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert {line.split()[0] for line in said.splitlines() if line.startswith("    ")} > set(commands())


def test_help_of_everything_imports_nothing_that_trains(nothing_imported):
    code = (
        "import sys, contextlib; from shortcut_snn.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_help_is_of_what_was_named(tmp_path, capsys):
    assert main(["train", "--network.kind", "vgg11", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--network.kind vgg11" in said
    assert "channels of the first layer" in said
    assert "--network.block" not in said
    mine = tmp_path / "mine.yaml"
    mine.write_text("method: {objective: {kind: loss_sum, average: true}}\noptimizer: sgd\n")
    assert main(["train", "--preset=evolutionary", f"--config={mine}", "-h"]) == 0
    said = capsys.readouterr().out
    assert "--method.branches.taps (stages, blocks or list of str; stages)" in said
    assert "--method.objective.average (bool; True)" in said
    assert "--optimizer.momentum" in said


def test_a_recipe_that_is_printed_is_the_same_when_read(tmp_path, capsys):
    words = ["train", "--out", "nowhere", "--config", "digits", "--preset", "calibrated", "--optimizer.kind", "sgd"]
    words += ["--optimizer.lr=1e-3", "--data.augment", "[crop]", "--loggers", "tensorboard", "--print-recipe"]
    assert main(words) == 0
    said = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(said)
    recipe = recipe_of(tmp_path / "printed.yaml")
    assert recipe == recipe_of(
        "digits", "calibrated", {"optimizer": {"kind": "sgd", "lr": 0.001}, "data": {"augment": ["crop"]}},
        {"loggers": ["tensorboard"]},
    )  # fmt: skip
    assert yaml.safe_load(said) == recipe.to_dict()
    # And it lays itself over anything.
    assert recipe_of("sew", tmp_path / "printed.yaml") == recipe
    assert not Path("nowhere").exists()


def test_components(capsys):
    assert main(["components"]) == 0
    said = capsys.readouterr().out
    assert all(
        name in said for name in ("| resnet18", "| lif", "| triangle", "| tet", "| adamw", "| cifar10dvs", "| nir")
    )
    assert main(["components", "surrogate"]) == 0
    rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["surrogate", "what it is", "options"]
    assert rows[2] == [
        "rectangle",
        r"``1 / width`` where ``\|v\| < width / 2``, else 0 (paper; its ``a``).",
        "width=1.0",
    ]
    assert "resnet18" not in [row[0] for row in rows]


def test_a_reader_that_leaves_is_no_error(finished):
    """As in ``shortcut-snn evaluate RUN | head -1``."""
    command = [sys.executable, "-m", "shortcut_snn", "evaluate", str(finished)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (0, "")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("shortcut-snn ")


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["recipes"]) == 1
    assert "the current folder is gone: change to another one" in one_line(capsys)
