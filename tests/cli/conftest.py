"""No command opens a network connection unasked, nor does a process that it starts: every test here holds to it."""

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

DENIED = Path(__file__).with_name("denied")


@pytest.fixture(scope="module", autouse=True)
def denied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shut every way to a network, here and in processes that are started; give the file that notes attempts."""
    note = tmp_path_factory.mktemp("denied") / "tried"
    spec = importlib.util.spec_from_file_location("denied", DENIED / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, getattr(socket.socket, name))
        patch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
        patch.setenv("DENIED", str(note))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(DENIED), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        yield note
    assert not note.exists(), note.read_text()
