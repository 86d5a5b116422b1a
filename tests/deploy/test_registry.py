"""Networks by name, and the Hugging Face hub."""

import json
import re
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects

from shortcut_snn.deploy import Card, card, load, push_to_hub
from shortcut_snn.deploy.card import readme
from shortcut_snn.deploy.registry import TRAINED


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


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that stands in for the repository ``someone/digits`` on the Hugging Face hub."""
    folder = tmp_path / "repository"
    folder.mkdir()

    class Api:
        def __init__(self, token, **_):
            self.token = token

        def create_repo(self, repository, private, exist_ok):
            assert (repository, private, exist_ok) == ("someone/digits", True, True)
            if self.token != "token":
                raise errors.LocalEntryNotFoundError("401: invalid token\nmore lines")

        def upload_file(self, repo_id, path_in_repo, path_or_fileobj):
            (folder / path_in_repo).write_bytes(path_or_fileobj)

        def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
            found = [str(path.relative_to(folder_path)) for path in folder_path.rglob("*")]
            for name in filter_repo_objects(found, allow_patterns=allow_patterns):
                shutil.copy(folder_path / name, folder / name)
            return SimpleNamespace(commit_url="https://hub/commit")

    def snapshot_download(repository, revision, allow_patterns):
        if repository != "someone/digits":
            raise errors.LocalEntryNotFoundError("not there")
        assert allow_patterns == ["network.safetensors", "card.json", "README.md"], "no code is fetched"
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return folder


def test_a_network_is_pushed_to_the_hub_and_fetched(hub):
    folder = TRAINED / "digits-resnet18"
    assert push_to_hub(folder, "someone/digits", private=True, token="token") == "https://hub/commit"
    assert {path.name for path in hub.iterdir()} == {"network.safetensors", "card.json", "README.md"}
    text = (hub / "README.md").read_text()
    assert 'load("someone/digits")' in text
    assert text.startswith("---\nlibrary_name: shortcut-snn\n")
    expected = load(folder).network.state_dict()
    assert all(
        torch.equal(value, expected[name]) for name, value in load("someone/digits").network.state_dict().items()
    )
    assert card("someone/digits") == card("digits-resnet18")


def test_errors_of_the_hub_are_one_line(hub):
    with pytest.raises(OSError, match=r"^someone/digits cannot be pushed .*: 401: invalid token$"):
        push_to_hub(TRAINED / "digits-resnet18", "someone/digits", private=True, token="another")
    with pytest.raises(OSError, match=r"^someone/else cannot be fetched"):
        load("someone/else")


def test_only_files_of_the_network_are_pushed(hub, tmp_path):
    folder = shutil.copytree(TRAINED / "digits-resnet18", tmp_path / "network")
    for path in (tmp_path / "secret", folder / "notes"):
        path.touch()
    entries = json.loads((folder / "card.json").read_text())
    entries["files"] |= {"onnx": "../secret", "nir": "*"}
    (folder / "card.json").write_text(json.dumps(entries))
    push_to_hub(folder, "someone/digits", private=True, token="token")
    assert {path.name for path in hub.iterdir()} == {"network.safetensors", "card.json", "README.md"}
    (folder / "network.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no network\.safetensors"):
        push_to_hub(folder, "someone/digits")


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OSError, match=r"shortcut-snn\[hub\]"):
        load("someone/digits-v1.0")


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
        hooks = huggingface_hub.get_session().event_hooks
        with pytest.raises(OSError, match=r"^someone/digits cannot be fetched .*timed out$"):
            load("someone/digits")
    assert huggingface_hub.get_session().event_hooks == hooks


def test_a_network_is_loaded_on_the_cpu_whatever_the_default_device_is():
    expected = load("digits-resnet18").network.state_dict()
    with torch.device("meta"):
        network = load("digits-resnet18")
    torch.testing.assert_close(network.network.state_dict(), expected, rtol=0, atol=0)


def test_names_are_no_links_in_a_readme():
    link = "[cat](https://example.org) <img src=x>"
    data = {"name": link, "classes": [link, "dog", "x" * 10**6]}
    text = readme(Card(link, data, {}, {}, files={link: "network.nir"}, licence=link))
    body = text.split("---\n")[2].split("## Recipe")[0]
    assert not re.search(r"(?<!\\)\]\(", body)
    assert not re.search(r"(?<!\\)<img", body)
    assert len(body) < 10_000
    assert r"# \[cat\]" in body
