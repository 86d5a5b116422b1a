"""How the code blocks of the documentation run: Python as it stands, files as files, commands made short.

The blocks of a page share their names, and an empty folder in which they run. What a page registers is forgotten when
it ends.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from shortcut_snn.cli import main
from shortcut_snn.neurons import use_backend

from .disk import unforced
from .pictures import coarse
from .registered import forgetting

ROOT = Path(__file__).parents[1]
# Options that make a command one of seconds, if its recipe has them; of an option that stands twice the last counts.
SMALL = ["--data.train_limit", "60", "--data.test_limit", "20", "--network.width", "4", "--network.time_steps", "2"]
SHORT = {"train": [*SMALL, "--training.epochs", "1"], "gradients": [*SMALL, "--batches", "1"]}
# The pages on ONNX files; elsewhere weights are exported, which takes no time.
EXPORTS_ONNX = ("export.md", "tutorial-own-images.md", "anytime.md")
SHALLOW = {"resnet34": "resnet20", "resnet110": "resnet20"}


class PythonParser(CodeBlockParser):
    """Runs a ``python`` block, or writes it to the file that its first line names, as in ``# my_net.py``."""

    language = "python"
    run = PythonEvaluator()

    def evaluate(self, example: Example) -> None:
        """Run or write it."""
        name = example.parsed.splitlines()[0].removeprefix("# ").strip()
        if re.fullmatch(r"\w+\.py", name):
            Path(name).write_text(example.parsed, encoding="utf-8")
        else:
            self.run(example)


class ConsoleParser(CodeBlockParser):
    """Runs the lines of a ``console`` block that start with ``$``."""

    language = "console"

    def evaluate(self, example: Example) -> None:
        """Run them."""
        for line in example.parsed.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                _run(shlex.split(line.removeprefix("$ "), comments=True), Path(example.path).name)


class YamlParser(CodeBlockParser):
    """Writes a ``yaml`` block to the file that its first line names, as in ``# recipe.yaml``."""

    language = "yaml"

    def evaluate(self, example: Example) -> None:
        """Write it."""
        name = example.parsed.splitlines()[0].removeprefix("# ").strip()
        assert re.fullmatch(r"\w+\.ya?ml", name), f"a yaml block starts with its file's name, not {name!r}"
        Path(name).write_text(example.parsed, encoding="utf-8")


class BashParser(CodeBlockParser):
    """Checks that a ``bash`` block, for many devices, is sound and that ours in it take their arguments."""

    language = "bash"

    def evaluate(self, example: Example) -> None:
        """Check it."""
        subprocess.run(["bash", "-n", "-c", example.parsed], check=True)
        for line in example.parsed.replace("\\\n", " ").splitlines():
            command = re.search(r"(?:shortcut-snn|-m shortcut_snn) (train .*)", line)
            if command:
                words = shlex.split(command[1], comments=True)
                # A recipe of the reader's own.
                values = {"recipe.yaml": "digits", "$method": "vanilla"}
                words = [values.get(word, re.sub(r"\$\w+", "0", word)) for word in words]
                words = _from_root(words)
                assert main([*words, "--print-recipe"]) == 0, line


def _run(words: list[str], page: str) -> None:
    """Run our command in this process; of any other, check that what it names is there.

    Raises:
        AssertionError: it fails, or names what does not exist.
    """
    program, *rest = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if program == "shortcut-snn":
        _run_ours(rest, page)
    elif program == "pip":
        extras = {extra for word in rest for group in re.findall(r"\[(.+)\]", word) for extra in group.split(",")}
        defined = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
        assert extras <= defined, f"no such extra: {extras - defined}"
    elif program == "make" and "-C" in rest:
        if shutil.which("cc"):
            subprocess.run(words, check=True)
    elif program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(rest) <= targets, f"no such target: {set(rest) - targets}"
    else:
        script = program
        if program.startswith("python"):
            script = rest[0]
            if script == "-m":
                module = rest[1].replace(".", "/")
                script = f"{module}.py" if (ROOT / f"{module}.py").is_file() else f"{module}/__main__.py"
        assert (ROOT / script).is_file() or shutil.which(script), f"no such program: {words}"


def _run_ours(words: list[str], page: str) -> None:
    arguments = words = [SHALLOW.get(word, word) for word in _from_root(words)]
    if words[0] == "export" and (page not in EXPORTS_ONNX or "--int8" in words):
        arguments = [word.replace("onnx", "safetensors") for word in words if word not in ("--streaming", "--int8")]
    if words[0] == "anytime":
        # Of a run that was made short, with few samples; of one whose data has to be downloaded the words are checked.
        arguments = [*words, *(["--drop", "0.5", "--samples", "8"] if Path(words[1]).exists() else ["--help"])]
    root = words[words.index("--data.root") + 1] if "--data.root" in words else "."
    if words[0] == "demo":
        # A test of its own runs it.
        arguments = [*words, "--help"]
    elif words[0] in (*SHORT, "compare") and not {"--help", "--print-recipe"} & set(words):
        if not any(word.startswith("--help") for word in words):
            # --print-recipe, which takes the place of a run, does not need it.
            assert "--out" in words, f"without --out: shortcut-snn {shlex.join(words)}"
        # A comparison, whose runs are processes, has tests of its own; what has to be downloaded first is not here.
        # Both are only read as command lines.
        here = words[0] in SHORT and "--data.download" not in words and Path(root).exists()
        arguments = _short(arguments) if here else [*arguments, "--print-recipe"]
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 0, f"shortcut-snn {shlex.join(arguments)}: exit status {status}"


def _from_root(words: list[str]) -> list[str]:
    return [str(ROOT / word) if word.startswith("examples/") else word for word in words]


def _short(words: list[str]) -> list[str]:
    """Return a command with those of its short options that it takes."""
    options, shortened = SHORT[words[0]], list(words)
    # Without a recipe or a kind the network is a ResNet-18, which takes ONNX's exporter twice as long.
    is_default = "digits" in words or "--config" not in words
    if is_default and not any(word.startswith("--network.kind") for word in words):
        options = ["--network.kind", "resnet8", *options]
    if main([*words, *options, "--print-recipe"]) == 0:
        return [*words, *options]
    for pair in zip(options[::2], options[1::2], strict=True):
        if "." not in pair[0] or main([*words, *pair, "--print-recipe"]) == 0:
            shortened += pair
    return shortened


def _enter(namespace: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Dataclasses look their module up.
    namespace["__name__"] = "__main__"
    namespace["_before"], namespace["_folder"] = os.getcwd(), tempfile.mkdtemp(prefix="page-")
    namespace["_around"] = around = ExitStack()
    around.enter_context(coarse())
    around.enter_context(unforced())
    around.enter_context(forgetting())
    # As a reader runs them, whatever the tests before them chose.
    around.enter_context(use_backend("auto"))
    os.chdir(namespace["_folder"])


def _leave(namespace: dict[str, Any]) -> None:
    namespace["_around"].close()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(namespace["_folder"]):
            del sys.modules[name]
    os.chdir(namespace["_before"])
    shutil.rmtree(namespace["_folder"])


def pages(path: Path) -> Sybil:
    """Return what collects the pages below a repository's folder."""
    return Sybil(
        parsers=[PythonParser(), ConsoleParser(), BashParser(), YamlParser()],
        patterns=["README.md", "CONTRIBUTING.md", "docs/*.md"],
        path=str(path),
        setup=_enter,
        teardown=_leave,
    )
