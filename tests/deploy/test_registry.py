"""Networks by name: from a folder, and from the Hugging Face hub's own client against an endpoint of this machine."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from shortcut_snn.cli import main
from shortcut_snn.deploy import card, load, names, registry

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def models(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    folder = root / "digits-resnet8"
    assert main(["export", str(trained), "--to", "safetensors", "--out", str(folder), "--name", folder.name]) == 0
    return root


def test_by_name(models, monkeypatch):
    assert names(models) == ["digits-resnet8"]
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    expected = load(models / "digits-resnet8" / "network.safetensors").logits(images)
    assert torch.equal(load("digits-resnet8", models).logits(images), expected)
    monkeypatch.setenv(registry.VARIABLE, str(models))
    assert torch.equal(load("digits-resnet8").logits(images), expected)
    assert card("digits-resnet8").recipe["data"]["kind"] == "digits"


def test_unknown_names(models, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no network 'digits-resnet21' \(did you mean digits-resnet8\?\): .*"):
        load("digits-resnet21", models)
    with pytest.raises(FileNotFoundError, match=r"no network 'cats'.* there are: digits-resnet8$"):
        load("cats", models)
    with pytest.raises(FileNotFoundError, match=r"and this package there are: .*digits-resnet18"):
        load("cats")
    with pytest.raises(FileNotFoundError, match=r"no network '\.\./x'"):
        load("../x", models / "digits-resnet8")
    with pytest.raises(FileNotFoundError, match="there are: none"):
        load("anything", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"there are: digits-resnet8$"):
        load("cats", str(models))


def test_a_name_in_a_folder_here_is_not_asked_for_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "fetch", lambda *_: pytest.fail("asked"))
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no network 'runs/digts'.* there is no such path"):
        load("runs/digts")


def test_a_precision_that_there_is_not():
    with pytest.raises(ValueError, match="precision is one of float32, bfloat16, got 'bf16'"):
        load("digits-resnet18", precision="bf16")


def test_ones_own_names_come_first(models, tmp_path, monkeypatch):
    shutil.copytree(models / "digits-resnet8", tmp_path / "digits-resnet18")
    monkeypatch.setenv(registry.VARIABLE, str(tmp_path))
    assert card("digits-resnet18").name == "digits-resnet8"
    # A folder of that name, but with no network, is not in the way.
    (tmp_path / "here" / "digits-resnet18").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert load("digits-resnet18").about.images.image_size == (8, 8)
    with pytest.raises(FileNotFoundError, match=r"holds no network\.safetensors"):
        load(tmp_path / "here")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a card"),
        ("[]", "expected an object"),
        ("{}", "name is missing"),
        ("[" * 100_000, "is not a card"),
        (json.dumps({"name": "x", "data": {}, "recipe": {}, "accuracy": {"test": "high"}, "files": {}, "version": ""}),
         "accuracy should be a number"),
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
    """As much of the hub's interface as its client needs to fetch and to push a repository ``someone/digits-v1.0``."""

    folder: Path
    agents: set[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        """Make a repository, say how files are to come, take small ones in a commit."""
        self.agents.add(self.headers["User-Agent"])
        given, path = self.rfile.read(int(self.headers["Content-Length"])), self.path.partition("?")[0]
        here = f"http://{self.headers['Host']}"
        if self.headers.get("Authorization") != "Bearer token":
            self._send(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            made = json.loads(given)
            assert (made["organization"], made["name"]) == ("someone", "digits-v1.0")
            # Earlier clients say private, later ones visibility.
            assert made.get("private") is True or made.get("visibility") == "private"
            self._send(200, {"url": f"{here}/someone/digits-v1.0"})
        elif path == "/api/validate-yaml":
            assert "license" in json.loads(given)["content"]
            self._send(200, {"errors": [], "warnings": []})
        elif path == "/api/models/someone/digits-v1.0/preupload/main":
            modes = [(each["path"], "lfs" if each["path"].endswith(".safetensors") else "regular")
                     for each in json.loads(given)["files"]]  # fmt: skip
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]
            self._send(200, {"files": files})
        elif path == "/someone/digits-v1.0.git/info/lfs/objects/batch":
            wanted = json.loads(given)["objects"]
            objects = [each | {"actions": {"upload": {"href": f"{here}/upload/{each['oid']}"}}} for each in wanted]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif path == "/api/models/someone/digits-v1.0/commit/main":
            for line in map(json.loads, given.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    (self.folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    (self.folder / f".{value['oid']}").rename(self.folder / value["path"])
            commit = f"{here}/someone/digits-v1.0/commit/{COMMIT}"
            self._send(200, {"success": True, "commitOid": COMMIT, "commitUrl": commit})
        else:
            self._send(404, {"error": path})

    def do_PUT(self) -> None:
        """Take a large file."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        (self.folder / f".{hashlib.sha256(content).hexdigest()}").write_bytes(content)
        self._send(200, {})

    def _send(self, status: int, about: dict[str, object]) -> None:
        content = json.dumps(about).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        self.agents.add(self.headers["User-Agent"])
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


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder as the repository; nothing that is asked says what is installed here."""
    agents: set[str] = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Hub,), {"folder": folder, "agents": agents}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert agents
    assert not [agent for agent in agents if "torch/" in agent], "telemetry is off"


HUB = """
import os, sys, pathlib
os.environ |= {"HF_ENDPOINT": sys.argv[1], "HF_HOME": sys.argv[2], "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
from shortcut_snn import load
from shortcut_snn.deploy import Inference, card
network = load("digits-resnet18")

def refused(call, *given, **options):
    try:
        call(*given, **options)
    except OSError as error:
        print(error)

refused(network.push_to_hub, "someone/digits-v1.0", token="another")
refused(load, "someone/else")
print(network.push_to_hub("someone/digits-v1.0", private=True, token="token"))
same = Inference.from_pretrained("someone/digits-v1.0")
print(all(a.equal(b) for a, b in zip(same.runtime.network.parameters(), network.runtime.network.parameters())))
print(card("someone/digits-v1.0") == card("digits-resnet18"))
kept = [path for path in pathlib.Path(sys.argv[2]).rglob("*") if path.parent.name.startswith("0123")]
print(*sorted(path.name for path in kept))
"""


def test_to_the_hub_and_back(tmp_path, nothing_imported):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "malice.py").write_text("raise SystemExit('code was fetched')")
    with serving(folder) as address:
        command = [sys.executable, "-W", "ignore", "-c", HUB, address, str(tmp_path / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pushed, fetched, url, *same, kept = done.stdout.splitlines()
    assert pushed.startswith("someone/digits-v1.0 cannot be pushed to the Hugging Face hub: ")
    assert fetched.startswith("someone/else cannot be fetched from the Hugging Face hub: ")
    assert url == f"{address}/someone/digits-v1.0/commit/{COMMIT}"
    assert same == ["True", "True"]
    assert kept == "README.md card.json network.safetensors", "no code is fetched"
    assert 'load("someone/digits-v1.0")' in (folder / "README.md").read_text()


def test_what_is_not_pushed(models, tmp_path, trained):
    network = load(trained)
    with pytest.raises(FileNotFoundError, match=r"no card .*: write network and card with shortcut-snn export"):
        network.push_to_hub("someone/digits-v1.0")
    network.folder = None
    with pytest.raises(FileNotFoundError, match="comes from no file"):
        network.push_to_hub("someone/digits-v1.0")
    # A card from elsewhere that names a file of this machine.
    shutil.copytree(models / "digits-resnet8", tmp_path / "mine")
    (tmp_path / "secret").touch()
    said = json.loads((tmp_path / "mine" / "card.json").read_text())
    (tmp_path / "mine" / "card.json").write_text(json.dumps(said | {"files": {"onnx": "../secret"}}))
    with pytest.raises(FileNotFoundError, match=r"names what is no file there: \.\./secret"):
        load(tmp_path / "mine").push_to_hub("someone/digits-v1.0")
    # One that speaks of another network than the one whose weights lie there.
    (tmp_path / "mine" / "network.onnx").touch()
    (tmp_path / "mine" / "card.json").write_text(json.dumps(said | {"files": {"onnx": "network.onnx"}}))
    with pytest.raises(FileNotFoundError, match=r"speaks of no network\.safetensors"):
        load(tmp_path / "mine").push_to_hub("someone/digits-v1.0")


def test_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OSError, match=r"needs huggingface_hub, .* pip install 'shortcut-snn\[hub\]'"):
        load("someone/digits-v1.0")
