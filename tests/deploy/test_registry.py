"""Networks by name: from a folder, and from the Hugging Face hub's own client against an endpoint of this machine."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from shortcut_snn.commands import main
from shortcut_snn.deploy import card, load, names, registry

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def models(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    folder = root / "digits-resnet20"
    assert main(["export", str(trained), "--to", "safetensors", "--out", str(folder), "--name", folder.name]) == 0
    return root


def test_by_name(models, monkeypatch):
    assert names(models) == ["digits-resnet20"]
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    expected = load(models / "digits-resnet20" / "network.safetensors").logits(images)
    assert torch.equal(load("digits-resnet20", models).logits(images), expected)
    monkeypatch.setenv(registry.VARIABLE, str(models))
    assert torch.equal(load("digits-resnet20").logits(images), expected)
    assert card("digits-resnet20").recipe["data"]["kind"] == "digits"


def test_unknown_names(models, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no network 'digits-resnet99'.* there are: digits-resnet20"):
        load("digits-resnet99", models)
    with pytest.raises(FileNotFoundError, match=r"no network '\.\./x'"):
        load("../x", models / "digits-resnet20")
    with pytest.raises(FileNotFoundError, match="there are: none"):
        load("anything", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a card"),
        ("[]", "expected an object"),
        ("{}", "name is missing"),
        ("[" * 100_000, "is not a card"),
        (json.dumps({"name": "x", "data": {}, "recipe": {}, "accuracy": {"test": "high"}, "files": {}, "version": ""}),
         "accuracy should be a valid number"),
        (json.dumps({"name": "x", "data": [], "recipe": {}, "accuracy": {}, "files": {}, "version": ""}), "data"),
    ],
)  # fmt: skip
def test_damaged_cards(tmp_path, content, said):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        card(tmp_path)
    (tmp_path / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="no card"):
        card(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as its client needs to fetch a repository ``someone/digits``."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = sorted(each.name for each in self.folder.iterdir())
        headers = {"X-Repo-Commit": COMMIT}
        content, status = b'{"error": "Repository not found"}', 404
        if path.startswith("/api/models/someone/digits-v1.0/tree/"):
            listed = [{"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": "0" * 40}
                      for name in files]  # fmt: skip
            content, status = json.dumps(listed).encode(), 200
        elif path.startswith("/api/models/someone/digits-v1.0"):
            about = {"id": "someone/digits-v1.0", "modelId": "someone/digits-v1.0", "sha": COMMIT, "private": False,
                     "siblings": [{"rfilename": name} for name in files]}  # fmt: skip
            content, status = json.dumps(about).encode(), 200
        elif path.startswith(f"/someone/digits-v1.0/resolve/{COMMIT}/"):
            content, status = (self.folder / path.rpartition("/")[2]).read_bytes(), 200
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        else:
            headers["X-Error-Code"] = "RepoNotFound"
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def endpoint(models: Path, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "repository"
    folder.mkdir()
    for path in (models / "digits-resnet20").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "malice.py").write_text("raise SystemExit('code was fetched')")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_from_the_hub(endpoint, models, tmp_path):
    code = """
import os, sys, pathlib, torch
os.environ |= {"HF_ENDPOINT": sys.argv[1], "HF_HOME": sys.argv[2], "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
from shortcut_snn.deploy import card, load
network = load("someone/digits-v1.0")
print(network.logits(torch.full((1, 1, 8, 8), 7, dtype=torch.uint8)).sum().item(), card("someone/digits-v1.0").name)
kept = [path for path in pathlib.Path(sys.argv[2]).rglob("*") if path.parent.name.startswith("0123")]
print(sorted(path.name for path in kept))
try:
    load("someone/else")
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, endpoint, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, files, error = done.stdout.splitlines()
    expected = load("digits-resnet20", models).logits(torch.full((1, 1, 8, 8), 7, dtype=torch.uint8)).sum().item()
    total, name = first.split()
    assert float(total) == pytest.approx(expected)
    assert name == "digits-resnet20"
    assert files == "['README.md', 'card.json', 'network.safetensors']", "no code is fetched"
    assert error.startswith("someone/else cannot be fetched from the Hugging Face hub: ")


def test_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OSError, match=r"needs huggingface_hub, .* pip install 'shortcut-snn\[export\]'"):
        load("someone/digits-v1.0")
