"""No command opens a network connection, nor does a process that it starts.

The fixture in conftest.py denies connections in all tests of this folder.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("nothing_imported")


def test_connections_are_denied_here_and_in_child_processes(denied: Path) -> None:
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("localhost", 1))
    call = "import socket; socket.socket().connect(('127.0.0.1', 1))"
    assert subprocess.run([sys.executable, "-P", "-c", call], capture_output=True, check=False).returncode == 1
    assert len(denied.read_text().splitlines()) == 2
    denied.unlink()


def test_imported_libraries_send_no_telemetry(tmp_path: Path) -> None:
    """Lightning imports onnxruntime, which would otherwise queue reports in the home folder."""
    code = "from shortcut_snn.cli import main; main(['recipes']); import shortcut_snn.training"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(tmp_path)}, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]


def test_python_m_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    """``python -m`` puts the current folder first on the path, where a file may have the name of a library."""
    names = ("typing", "re", "json", "numpy", "torch", "yaml", "socket")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'victim')!r}, 'w')")
    # The second is how Lightning starts the other processes of a run.
    for words in (["shortcut_snn", "recipes"], ["shortcut_snn.__main__", "--version"]):
        process = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        assert not (tmp_path / "victim").exists()
