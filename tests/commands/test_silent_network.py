"""No command opens a network connection unasked."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shortcut_snn.commands import main

from ..runs.small import options

pytestmark = pytest.mark.usefixtures("denied")


@pytest.fixture(scope="module")
def denied():
    """Every way to a network is shut, and every attempt is noted: one that is caught on its way counts too."""
    tried: list[str] = []

    def connect(self: socket.socket, *given: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):
            tried.append(f"a connection to {given}")
            raise OSError("no network")

    def name(*given: Any, **named: Any) -> None:
        tried.append(f"the address of {given[0]}")
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, method, connect)
        patch.setattr(socket, "getaddrinfo", name)
        with pytest.raises(OSError, match="no network"):
            socket.create_connection(("localhost", 1))
        assert len(tried) == 1, "the test would notice"
        tried.clear()
        yield
    assert tried == []


@pytest.fixture(scope="module")
def run(denied: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = {"training__epochs": 1, "data__train_limit": 20, "data__test_limit": 10, "network__time_steps": 1}
    assert main(["train", "--out", str(folder), *options(**small | {"data__batch_size": 10, "network__width": 2})]) == 0
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "RUN"],
        ["report", "RUN"],
        ["energy", "RUN"],
        ["export", "RUN", "--to", "safetensors"],
        ["export", "RUN", "--to", "onnx"],
        ["recipes"],
        ["components"],
        ["gradients", "--out", "OUT", "--config", "digits", "--network.width=2", "--data.train_limit=20"],
        ["compare", "--out", "OUT/c", "--methods", "vanilla", "--seeds", "1", "--print-recipe"],
    ],
    ids=lambda arguments: " ".join(arguments[:4]),
)
def test_a_command(run: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert main([word.replace("RUN", str(run)).replace("OUT", str(tmp_path)) for word in arguments]) == 0


def test_nobody_else_reports_either(tmp_path: Path) -> None:
    """Lightning imports onnxruntime, where there is one, which has a queue of its own for its makers."""
    code = "import os, shortcut_snn.runs; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]


def test_python_m_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    """Python itself puts the current folder first there."""
    (tmp_path / "yaml.py").write_text(f"open({str(tmp_path / 'victim')!r}, 'w')")
    done = subprocess.run(
        [sys.executable, "-m", "shortcut_snn", "recipes"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "victim").exists()
