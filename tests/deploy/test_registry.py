"""Networks by name: from folders, and from the Hugging Face hub's client against a server on this machine."""

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

from shortcut_snn.deploy import TRAINED, card, load, push_to_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "keyword"),
    [("digits-resnet21", "did you mean digits-resnet18"), ("cats", "has: cifar10"), ("../x", r"'\.\./x'")],
)
def test_errors_list_the_names(name, keyword):
    with pytest.raises(FileNotFoundError, match=keyword):
        load(name)


def test_a_mistyped_path_is_not_sent_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("shortcut_snn.deploy.registry.fetch", lambda *_: pytest.fail("sent to the hub"))
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(FileNotFoundError, match="'runs/digts'"):
        load("runs/digts")


def test_a_folder_without_a_network_does_not_hide_a_name(tmp_path, monkeypatch):
    (tmp_path / "digits-resnet18").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("digits-resnet18").spec.inputs.image_size == (8, 8)
    with pytest.raises(FileNotFoundError, match=r"network\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "keyword"),
    [
        ("{", "is not a card"),
        ("[]", "expected an object"),
        ("{}", "name is missing"),
        ("[" * 100_000, "is not a card"),
        (json.dumps({"name": "x", "data": {}, "recipe": {}, "accuracy": {"test": "high"}}), "accuracy"),
    ],
)
def test_damaged_cards_are_refused(tmp_path, content, keyword):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(ValueError, match=keyword):
        card(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that its client uses to fetch and push the repository ``someone/digits-v1.0``."""

    folder: Path
    agents: set[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        """Create a repository, say how files are uploaded, or take a commit with small files."""
        self.agents.add(self.headers["User-Agent"])
        body, path = self.rfile.read(int(self.headers["Content-Length"])), self.path.partition("?")[0]
        here = f"http://{self.headers['Host']}"
        if self.headers.get("Authorization") != "Bearer token":
            self._send(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            request = json.loads(body)
            assert (request["organization"], request["name"]) == ("someone", "digits-v1.0")
            # The key depends on the client's version.
            assert request.get("private") is True or request.get("visibility") == "private"
            self._send(200, {"url": f"{here}/someone/digits-v1.0"})
        elif path == "/api/validate-yaml":
            assert "license" in json.loads(body)["content"]
            self._send(200, {"errors": [], "warnings": []})
        elif path == "/api/models/someone/digits-v1.0/preupload/main":
            modes = [(file["path"], "lfs" if file["path"].endswith(".safetensors") else "regular")
                     for file in json.loads(body)["files"]]  # fmt: skip
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]
            self._send(200, {"files": files})
        elif path == "/someone/digits-v1.0.git/info/lfs/objects/batch":
            objects = [
                file | {"actions": {"upload": {"href": f"{here}/upload/{file['oid']}"}}}
                for file in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif path == "/api/models/someone/digits-v1.0/commit/main":
            for line in map(json.loads, body.splitlines()):
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

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        self.agents.add(self.headers["User-Agent"])
        path = self.path.partition("?")[0]
        files = sorted(file.name for file in self.folder.iterdir())
        headers = {"X-Repo-Commit": COMMIT}
        if path.startswith("/api/models/someone/digits-v1.0/tree/"):
            listed = [{"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": "0" * 40}
                      for name in files]  # fmt: skip
            self._send(200, listed, headers, body)
        elif path.startswith("/api/models/someone/digits-v1.0"):
            info = {"id": "someone/digits-v1.0", "modelId": "someone/digits-v1.0", "sha": COMMIT, "private": False,
                    "siblings": [{"rfilename": name} for name in files]}  # fmt: skip
            self._send(200, info, headers, body)
        elif path.startswith(f"/someone/digits-v1.0/resolve/{COMMIT}/"):
            content = (self.folder / path.rpartition("/")[2]).read_bytes()
            self._send(200, content, headers | {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, body)
        else:
            self._send(404, {"error": "Repository not found"}, headers | {"X-Error-Code": "RepoNotFound"}, body)

    def _send(self, status: int, content: object, headers: dict[str, str] | None = None, body: bool = True) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder as the repository, and check that no request lists what is installed here."""
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


PUSH_AND_FETCH = """
import os, sys, pathlib
os.environ |= {"HF_ENDPOINT": sys.argv[1], "HF_HOME": sys.argv[2], "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
from shortcut_snn import load
from shortcut_snn.deploy import TRAINED, card, push_to_hub
network, folder = load("digits-resnet18"), TRAINED / "digits-resnet18"

def print_error(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except OSError as error:
        print(error)

print_error(push_to_hub, folder, "someone/digits-v1.0", token="another")
print_error(load, "someone/else")
print(push_to_hub(folder, "someone/digits-v1.0", private=True, token="token"))
same = load("someone/digits-v1.0")
print(all(a.equal(b) for a, b in zip(same.network.parameters(), network.network.parameters())))
print(card("someone/digits-v1.0") == card("digits-resnet18"))
files = [path for path in pathlib.Path(sys.argv[2]).rglob("*") if path.parent.name.startswith("0123")]
print(*sorted(path.name for path in files))
"""


def test_a_network_is_pushed_to_the_hub_and_fetched(tmp_path, nothing_imported):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "malice.py").write_text("raise SystemExit('code was fetched')")
    with serving(folder) as address:
        command = [sys.executable, "-W", "ignore", "-c", PUSH_AND_FETCH, address, str(tmp_path / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pushed, fetched, url, *same, files = done.stdout.splitlines()
    assert pushed.startswith("someone/digits-v1.0 cannot be pushed")
    assert fetched.startswith("someone/else cannot be fetched")
    assert url == f"{address}/someone/digits-v1.0/commit/{COMMIT}"
    assert same == ["True", "True"]
    assert files == "README.md card.json network.safetensors", "no code is fetched"
    text = (folder / "README.md").read_text()
    assert 'load("someone/digits-v1.0")' in text
    assert text.startswith("---\n")


@pytest.mark.parametrize(
    ("files", "keyword"),
    [({"onnx": "../secret"}, r"\.\./secret"), ({"onnx": "network.onnx"}, r"no network\.safetensors")],
)
def test_only_files_of_the_network_are_pushed(tmp_path, files, keyword):
    folder = shutil.copytree(TRAINED / "digits-resnet18", tmp_path / "network")
    (tmp_path / "secret").touch()
    (folder / "network.onnx").touch()
    entries = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(entries | {"files": files}))
    with pytest.raises(FileNotFoundError, match=keyword):
        push_to_hub(folder, "someone/digits-v1.0")


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OSError, match=r"shortcut-snn\[hub\]"):
        load("someone/digits-v1.0")
