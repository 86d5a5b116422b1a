"""No command opens a network connection unasked, nor does a process that it starts: conftest.py shuts every way."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.cli._commands import COMMANDS as ALL

from ..training.small import options

pytestmark = pytest.mark.usefixtures("nothing_imported")
SMALL = {
    "training__epochs": 1, "data__train_limit": 20, "data__test_limit": 10, "network__time_steps": 1,
    "data__batch_size": 10, "network__width": 2,
}  # fmt: skip


def test_ways_are_shut_here_and_in_children(denied: Path) -> None:
    """As commands start them."""
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("localhost", 1))
    call = "import socket; socket.socket().connect(('127.0.0.1', 1))"
    assert subprocess.run([sys.executable, "-P", "-c", call], capture_output=True, check=False).returncode == 1
    assert len(denied.read_text().splitlines()) == 2
    denied.unlink()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--out", str(folder), *options(**SMALL)]) == 0
    return folder


COMMANDS = {
    "evaluate": "RUN",
    "report": "RUN",
    "energy": "RUN",
    "export": "RUN --to onnx",
    "predict": "digits-resnet18 IMAGE",
    "recipes": "",
    "components": "",
    "gradients": "--out OUT/g --config digits --network.width=2 --data.train_limit=20",
}
ELSEWHERE = {"compare", "demo", "sweep"}
"""Theirs are tests beside this one, which no more reach a network, nor do the processes that they start."""


def test_none_is_left_out() -> None:
    assert {*COMMANDS, "train", *ELSEWHERE} == set(ALL)
    assert all(Path(__file__).with_name(f"test_{command}.py").is_file() for command in ELSEWHERE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(run: Path, tmp_path: Path, command: str) -> None:
    from PIL import Image

    Image.new("L", (8, 8), 100).save(tmp_path / "image.png")
    given = COMMANDS[command].replace("RUN", str(run)).replace("OUT", str(tmp_path))
    arguments = given.replace("IMAGE", str(tmp_path / "image.png")).split()
    assert main([command, *arguments]) == 0


def test_nobody_else_reports_either(tmp_path: Path) -> None:
    """Lightning imports onnxruntime, where there is one, which has a queue of its own for its makers."""
    code = "import os, shortcut_snn.training; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]


def test_python_m_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    """Python itself puts the current folder first there."""
    for name in ("typing", "re", "json", "numpy", "torch", "yaml", "socket"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'victim')!r}, 'w')")
    # The second is how Lightning starts the other processes of a run.
    for words in (["shortcut_snn", "recipes"], ["shortcut_snn.__main__", "--version"]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "victim").exists()
    # Of another program that is started so and uses the library, it is its own business.
    (tmp_path / "mine.py").write_text("import shortcut_snn, beside")
    (tmp_path / "beside.py").write_text("print('found')")
    for name in ("typing", "re", "json", "numpy", "torch", "yaml", "socket"):
        (tmp_path / f"{name}.py").unlink()
    done = subprocess.run([sys.executable, "-m", "mine"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "found\n", done.stderr
