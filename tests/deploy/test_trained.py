"""The networks that come with the package: complete, small, in the wheel, and as good as their cards say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hatchling.builders.wheel import WheelBuilder
from safetensors import safe_open

from shortcut_snn import load
from shortcut_snn.data import Digits
from shortcut_snn.deploy import card, names
from shortcut_snn.deploy.card import ENERGY, readme
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.recipes import recipe_of

NAMES = names()


def test_the_four_networks_are_found():
    assert {"cifar10-resnet18", "cifar100-resnet18", "digits-resnet18", "nmnist-small"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name):
    stated = card(name)
    assert stated.name == name
    assert stated.data["licence"]
    assert stated.licence
    assert stated.data["name"] != stated.recipe["data"]["kind"], "the name of the set, not of its loader"
    assert stated.data["samples"]["test"] > 0
    assert 0.5 < stated.accuracy["test"] <= 1
    assert stated.energy.keys() == ENERGY.keys()
    assert list(load(name).classes) == stated.data["classes"]
    data = stated.recipe["data"]
    assert data.get("root") is None, "no path of the machine that trained it"
    recipe_of({**stated.recipe, "data": data | ({"root": "data.npz"} if "root" in data else {})})
    assert (TRAINED / name / "README.md").read_text() == readme(stated, name)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_in_half_precision(name):
    path = TRAINED / name / "network.safetensors"
    assert path.stat().st_size < 6e6
    with safe_open(path, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118 (no dictionary)
    assert {weight.dtype for weight in load(name).network.parameters()} == {torch.float32}


def test_the_accuracy_on_the_card_is_that_of_the_file():
    test = Digits(validation=0.1).load().test
    predicted = load("digits-resnet18").predict(test.fetch(np.arange(len(test))))
    accuracy = (predicted == test.labels).float().mean().item()
    assert len(test) == card("digits-resnet18").data["samples"]["test"]
    assert accuracy == pytest.approx(card("digits-resnet18").accuracy["test"], abs=0.005)


def test_the_networks_are_in_the_wheel():
    root = Path(__file__).parents[2]
    files = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    for name in NAMES:
        for file in ("network.safetensors", "card.json", "README.md"):
            assert f"shortcut_snn/trained/{name}/{file}" in files
