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
from shortcut_snn.deploy.registry import TRAINED, WEIGHTS

ROOT = Path(__file__).parents[2]
NAMES = names(TRAINED)


def test_they_are_there():
    assert {"cifar10-resnet18", "cifar100-resnet18", "digits-resnet18", "nmnist-small"} <= set(NAMES) <= set(names())


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name):
    said = card(name, TRAINED)
    assert said.name == name
    assert said.data["licence"]
    assert said.licence
    assert said.data["name"] != said.recipe["data"]["kind"], "what a person calls it"
    assert said.data["samples"]["test"] > 0
    assert 0.5 < said.accuracy["test"] <= 1
    assert len(said.energy) == 4
    assert said.inputs
    assert list(load(name, TRAINED).classes) == said.data["classes"]
    assert "root" not in said.recipe["data"] or said.recipe["data"]["root"] is None


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_in_half_precision(name):
    path = TRAINED / name / WEIGHTS
    assert path.stat().st_size < 6e6
    with safe_open(path, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118 (no dictionary)
    assert {weight.dtype for weight in load(name, TRAINED).runtime.network.parameters()} == {torch.float32}


def test_the_accuracy_on_the_card_is_that_of_the_file():
    test = Digits(validation=0.1).load().test
    predicted = load("digits-resnet18", TRAINED).predict(test.fetch(np.arange(len(test))))
    accuracy = (predicted == test.labels).float().mean().item()
    assert len(test) == card("digits-resnet18", TRAINED).data["samples"]["test"]
    assert accuracy == pytest.approx(card("digits-resnet18", TRAINED).accuracy["test"], abs=0.005)


def test_they_are_in_the_wheel():
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    for name in NAMES:
        for file in (WEIGHTS, "card.json", "README.md"):
            assert f"shortcut_snn/trained/{name}/{file}" in files
