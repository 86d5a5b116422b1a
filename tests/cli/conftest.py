"""Deny network connections to every command of these tests and to the processes that they start; run kernels."""

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

DENIED = Path(__file__).with_name("denied")


@pytest.fixture(scope="module", autouse=True)
def denied(tmp_path_factory: pytest.TempPathFactory, kernels: None) -> Iterator[Path]:
    """Deny connections here and in child processes; yield the file that records attempts, which must not exist."""
    record = tmp_path_factory.mktemp("denied") / "attempts"
    spec = importlib.util.spec_from_file_location("denied", DENIED / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.MonkeyPatch.context() as patch:
        # Restores what sitecustomize.py replaces in this process.
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, getattr(socket.socket, name))
        patch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
        patch.setenv("DENIED", str(record))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(DENIED), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        yield record
    assert not record.exists(), record.read_text()
