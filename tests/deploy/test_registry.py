"""Networks by name, and the Hugging Face hub."""

import json
import re
import shutil
import socket
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from shortcut_snn.deploy import Card, card, load
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


def test_a_path_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(TRAINED / "digits-resnet18", tmp_path / "mine")
    assert card("~/mine") == card("digits-resnet18")
    assert load("~/mine").spec == load("digits-resnet18").spec


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


def test_a_network_of_the_hub_is_fetched_without_code(monkeypatch):
    def hf_hub_download(repository, file, revision):
        if repository != "someone/digits":
            raise errors.LocalEntryNotFoundError("401: invalid token\nmore lines")
        assert file in ("network.safetensors", "card.json")
        return str(TRAINED / "digits-resnet18" / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    expected = load("digits-resnet18").network.state_dict()
    torch.testing.assert_close(load("someone/digits").network.state_dict(), expected, rtol=0, atol=0)
    assert card("someone/digits") == card("digits-resnet18")
    with pytest.raises(OSError, match=r"^someone/else cannot be fetched .*: 401: invalid token$"):
        load("someone/else")


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OSError, match=r"shortcut-snn\[hub\]"):
        load("someone/digits-v1.0")


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between its attempts
        with pytest.raises(OSError, match=r"^someone/digits cannot be fetched "):
            load("someone/digits")


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
