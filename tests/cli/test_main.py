"""The command line: errors are one line with an exit status, nothing is left half-written, help is short and fast."""

import errno
import importlib
import io
import os
import pty
import signal
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from shortcut_snn.cli import main, recipes
from shortcut_snn.cli import train as train_command
from shortcut_snn.cli._commands import COMMANDS
from shortcut_snn.cli._recipe_options import SECTIONS
from shortcut_snn.cli._terminal import print_line
from shortcut_snn.recipes import Recipe, recipe_of
from shortcut_snn.recipes.entries import PRESETS, built_in
from shortcut_snn.training import Interrupted

from ..training.small import error_line, train


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"optimizer__lr": -1}, "optimizer: Invalid learning rate: -1"),
        ({"preset": "magic"}, "'magic'"),
        ({"neuron__kind": "plif", "neuron__decay": 1}, "neuron.decay"),
        ({"preset": "tet", "method__objective__weight": 2}, "weight"),
        ({"data__kind": "cifar10", "data__augment": "[blur]"}, "'blur'"),
    ],
)
def test_invalid_entries(tmp_path, capsys, changes, keyword):
    assert train(tmp_path / "run", **changes) == 2
    assert keyword in error_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"method__branches__taps": "[layer1,layr2]"}, "'layr2'"),
        ({"data__kind": "cifar10", "data__root": "nowhere"}, "nowhere"),
        ({"data__kind": "npz", "data__root": "nowhere.npz"}, "nowhere.npz"),
        ({"training__accelerator": "abacus"}, "abacus"),
    ],
)
def test_entries_that_fail_when_built(tmp_path, capsys, changes, keyword):
    assert train(tmp_path / "run", **changes) == 1
    assert keyword in error_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("training:\n  epochs: 1\n  epocs: 2\n", "epocs"),
        ("training: [1, 2\n", "recipe.yaml is not YAML"),
        ("import: mine.py\n", "'import'"),
        ("network: {class_path: mine.Network, init_args: {}}\n", "'class_path'"),
        ("network: mine.Network\n", "'mine.Network'"),
        ("neuron: !!python/object/apply:os.system ['true']\n", "recipe.yaml is not YAML"),
    ],
)
def test_invalid_recipe_files_import_nothing(tmp_path, capsys, monkeypatch, text, keyword):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')")
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert keyword in error_line(capsys)
    assert not (tmp_path / "run").exists()


TRAIN = ["train", "--out", "x"]


@pytest.mark.parametrize(
    ("words", "keyword"),
    [
        (["trian"], "(did you mean train?)"),
        (["compare", "--out", "x", "--launcher", "slurm"], "--launcher"),
        ([], "name a command"),
        (["--traceback"], "COMMAND"),
        (["train"], "--out"),
        ([*TRAIN, "--lr", "0.1"], "(did you mean --optimizer.lr?)"),
        ([*TRAIN, "--seed", "3"], "(did you mean --data.seed or --training.seed?)"),
        ([*TRAIN, "--epochs=3"], "(did you mean --training.epochs?)"),
        ([*TRAIN, "--netwrok.width", "3"], "(did you mean --network.width?)"),
        ([*TRAIN, "--method", "initialised"], "--preset initialised"),
        ([*TRAIN, "--network.name", "resnet34"], "(did you mean kind?)"),
        ([*TRAIN, "--network.widht", "3"], "(did you mean width?)"),
        ([*TRAIN, "--network.width"], "--network.width needs a value"),
        ([*TRAIN, "--network.width", "--resume"], "--network.width needs a value"),
        ([*TRAIN, "--config"], "--config"),
        ([*TRAIN, "--optimizer.lr", "fast"], "optimizer.lr"),
        ([*TRAIN, "--method.branches.taps", "block"], "(did you mean blocks?)"),
        ([*TRAIN, "--", "--network.width", "3"], "--network.width"),
        (["train", "digits", "--out", "x"], "'digits'"),
        ([*TRAIN, "--config", "digit"], "(did you mean digits?)"),
        ([*TRAIN, "--import", "nowhere.py"], "nowhere.py"),
        (["train", "--help-recipe", "netwrok"], "'netwrok'"),
        (["train", "--resume", "--print-recipe", "--network.widht", "3"], "(did you mean width?)"),
        (["export", "x"], "--to and one of: "),
        (["export", "x", "--to", "onxx"], "--to onxx (did you mean onnx?)"),
        ([*TRAIN, "--preset", "calibrated"], "(it is now initialised)"),
        ([*TRAIN, "--training.decay", "1"], "(it is now weight_decay_on)"),
        ([*TRAIN, "--preset", "loss_sum", "--method.branches.schedule.kind", "linear"], "(it is now branch_weight)"),
        (["evaluate"], "run"),
        (["evaluate", "x", "--data.root", "y"], "--data.root"),
        (["evaluate", "x", "--weights", "worst"], "'worst'"),
        (["evaluate", "x", "--set", "data.root"], "data.root"),
        (["evaluate", "x", "--import", "nowhere.py"], "nowhere.py"),
        (["components", "--import", "nowhere.py"], "nowhere.py"),
        (["predict", "x", "y.png", "--import", "nowhere.py"], "nowhere.py"),
        (["export", "x", "--to", "onnx", "--half"], "--half: exporter 'onnx' has no entry"),
        (["export", "x", "--to", "integer", "--bits", "99"], "--bits should be"),
        (["anytime", "x", "--drop", "-1"], "--drop"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["doctor", "--device", "cudaa"], "'cudaa'"),
        (["train", "--out", ""], "--out is empty"),
        ([*TRAIN, "--start-from", ""], "--start-from is empty"),
        (["components", "surogate"], "(did you mean surrogate?)"),
        (["compare", "--out", "x", "--methods", "vanila"], "(did you mean vanilla?)"),
        (["compare", "--out", "x", "--grid", "lr=1,2"], "(did you mean optimizer.lr?)"),
    ],
)
def test_invalid_arguments(words, keyword, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert keyword in error_line(capsys)
    assert not list(tmp_path.iterdir())


def test_recipes_lists_recipes_and_presets(capsys):
    assert main(["recipes"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in (*built_in(), *PRESETS))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_on_a_screen(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    output = capsys.readouterr().out
    assert output.startswith(f"usage: shortcut-snn {name}")
    assert len(output.splitlines()) <= 40
    assert max(map(len, output.splitlines())) <= 120
    assert ("--help-recipe" in output) == (COMMANDS[name].source == "recipe")


def test_help_shows_defaults_as_they_are_typed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["compare", "--help"])
    assert "(default: vanilla evolutionary loss_sum initialised)" in " ".join(capsys.readouterr().out.split())


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    output = capsys.readouterr().out
    assert {line.split()[0] for line in output.splitlines() if line.startswith("    ")} >= set(COMMANDS)


@pytest.mark.usefixtures("nothing_imported")
def test_help_and_recipes_do_not_import_torch():
    code = (
        "import sys, contextlib; from shortcut_snn.cli import main\n"
        f"for name in {list(COMMANDS)}:\n"
        "    with contextlib.suppress(SystemExit): main([name, '--help'])\n"
        "main(['recipes'])\n"
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_help_of_a_section_describes_the_chosen_components(tmp_path, capsys):
    assert [field.name for field in fields(Recipe)] == list(SECTIONS)
    assert main(["train", "--network.kind", "vgg11", "--help-recipe", "network"]) == 0
    output = capsys.readouterr().out
    assert "--network.kind vgg11\n" in output
    assert "--network.width 64 (int)\n    " in output
    assert "--network.block" not in output
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("method: {objective: {kind: loss_sum, average: true}}\n")
    assert main(["train", "--preset=evolutionary", f"--config={recipe}", "--help-recipe=method"]) == 0
    output = capsys.readouterr().out
    assert "--method.branches.taps stages (stages, blocks or int or list of str)" in output
    assert "--method.objective.average True (bool)" in output


def test_a_printed_recipe_can_be_read(tmp_path, capsys):
    words = ["train", "--config", "digits", "--preset", "initialised", "--optimizer.kind", "sgd"]
    words += ["--optimizer.lr=1e-3", "--data.augment", "[crop]", "--loggers", "tensorboard", "--print-recipe"]
    assert main(words) == 0
    output = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(output)
    recipe = recipe_of(tmp_path / "printed.yaml")
    assert recipe == recipe_of(
        "digits", "initialised", {"optimizer": {"kind": "sgd", "lr": 0.001}, "data": {"augment": ["crop"]}},
        {"loggers": ["tensorboard"]},
    )  # fmt: skip
    assert yaml.safe_load(output) == recipe.to_dict()
    # It is complete, so it replaces anything below it.
    assert recipe_of("sew", tmp_path / "printed.yaml") == recipe


def test_components_are_listed_by_kind(capsys):
    assert main(["components"]) == 0
    output = capsys.readouterr().out
    assert all(f"| {name} " in output for name in ("resnet18", "lif", "triangle", "tet", "adamw", "cifar10dvs", "nir"))
    assert main(["components", "surrogate"]) == 0
    rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["surrogate", "description", "options"]
    assert (rows[2][0], rows[2][2]) == ("rectangle", "width=1.0")
    assert "resnet18" not in [row[0] for row in rows]


@pytest.mark.usefixtures("nothing_imported")
def test_a_closed_pipe_is_not_an_error():
    """As in ``shortcut-snn recipes | head -1``."""
    command = [sys.executable, "-m", "shortcut_snn", "recipes"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    message = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), message) == (0, "")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("shortcut-snn ")


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("onnxruntime", "pip install 'shortcut-snn[export]'"),
        ("sqlalchemy.orm", "pip install 'shortcut-snn[trackers]'"),
        ("sklearn", "pip install 'shortcut-snn[train]'"),
        ("nowhere", "pip install nowhere"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, capsys, module, command):
    def run(options):
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr(recipes, "run", run)
    assert main(["recipes"]) == 1
    assert error_line(capsys).endswith(f"{module} is not installed: {command}\n")


@pytest.mark.parametrize("error", ["ImportError", "RuntimeError", "ValueError"])
def test_a_package_that_does_not_load_is_named(tmp_path, monkeypatch, capsys, error):
    (tmp_path / "torchvisual.py").write_text(f"raise {error}('operator nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(recipes, "run", lambda options: importlib.import_module("torchvisual"))
    assert main(["recipes"]) == 1
    assert "torchvisual cannot be imported (operator nms does not exist): install it again" in error_line(capsys)


@pytest.mark.parametrize("command", ["train", "components"])
def test_a_traceback_shows_the_line_of_an_imported_file(tmp_path, capsys, command):
    (tmp_path / "faulty.py").write_text("import json\njson.dump_it()\n")
    words = [command, "--import", str(tmp_path / "faulty.py"), *(["--out", "x"] if command == "train" else [])]
    assert main(words) == 2
    assert "faulty.py cannot be imported: AttributeError" in error_line(capsys)
    assert main([*words, "--traceback"]) == 2
    assert f'"{tmp_path / "faulty.py"}", line 2' in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(capsys):
    assert main(["predict", "\x1b]0;title\x07\u202e", "image.png"]) == 1
    assert r"\x1b]0;title\x07\u202e" in error_line(capsys)
    print_line("first\nsecond \x1b[2J")
    assert capsys.readouterr().out == "first\nsecond \\x1b[2J\n"


def test_a_closed_terminal_ends_a_run_with_its_signal(tmp_path, monkeypatch):
    def interrupt(*args, **options):
        raise Interrupted(signal.SIGHUP)

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(train_command, "train", interrupt)
    monkeypatch.setattr(sys, "stderr", Gone())
    assert main(["train", "--out", str(tmp_path / "run"), "--config", "digits"]) == 129


def test_a_folder_in_the_home_is_found_in_one_word(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = ["--config", "digits", "--network.kind", "resnet8", "--network.width", "2", "--training.epochs", "1"]
    assert main(["train", "--out=~/run", *small, "--data.train_limit", "40", "--data.test_limit", "20"]) == 0
    assert (tmp_path / "run" / "result.json").is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("option", ["--data.kind", "--data.validation", "--network.time_steps", "--preset"])
def test_an_error_quotes_no_word_of_thousands_of_letters(capsys, option):
    assert main(["train", "--out", "x", option, "y" * 5000]) in (1, 2)
    assert len(error_line(capsys)) < 1500


@pytest.mark.usefixtures("nothing_imported")
def test_a_terminal_hears_of_the_command_before_torch_is_loaded(tmp_path):
    parent, child = pty.openpty()
    subprocess.run([sys.executable, "-m", "shortcut_snn", "evaluate", str(tmp_path)], stderr=child, check=False)
    os.close(child)
    text = os.read(parent, 10_000).decode()
    assert text.startswith("shortcut-snn: loading PyTorch ...\r\x1b[K")
    assert "shortcut-snn: error: " in text
    os.close(parent)


def test_a_tracker_that_fails_is_named(monkeypatch, capsys):
    error = type("MlflowException", (Exception,), {"__module__": "mlflow.exceptions"})

    def run(options: object) -> int:
        raise error("API request failed\nconnection refused")

    monkeypatch.setattr(recipes, "run", run)
    assert main(["recipes"]) == 1
    assert error_line(capsys) == "shortcut-snn: error: mlflow: API request failed connection refused\n"
