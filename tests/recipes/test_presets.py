"""Presets: the objects that each stands for, and how they combine."""

import dataclasses
import pickle
from typing import Any

import pytest
import torch

from shortcut_snn import TET, Constant, LinearDecay, LogitSum, LossSum, SelfDistillation, StepLossSum, load
from shortcut_snn.data import Digits
from shortcut_snn.nets.blocks import BasicBlock, MSBlock, SEWBlock
from shortcut_snn.recipes import Recipe, build, changed, recipe_of
from shortcut_snn.recipes.entries import PRESETS

SMALL = {"network": {"width": 2, "time_steps": 2}, "data": {"train_limit": 60, "test_limit": 10}}
# Objective, lambda, number of branches.
EXPECTED = {
    "vanilla": (LogitSum(), None, 0),
    "shortcut": (LogitSum(), Constant(1.0), 3),
    "evolutionary": (LogitSum(), LinearDecay(0.25), 3),
    "loss_sum": (LossSum(), LinearDecay(0.25), 7),
    "initialised": (LogitSum(), None, 0),
    "initialised_loss_sum": (LossSum(), LinearDecay(0.25), 7),
    "deep_supervision": (LossSum(), Constant(1.0), 3),
    "stages_and_steps": (StepLossSum(), Constant(1.0), 3),
    "distillation": (SelfDistillation(0.1, 3.0), Constant(1.0), 3),
    "tet": (TET(0.001, 1.0), None, 0),
    "tdbn": (LogitSum(), None, 0),
    "sew": (LogitSum(), None, 0),
    "ms": (LogitSum(), None, 0),
    "sltt": (LogitSum(), None, 0),
}


def recipe(name: str, **changes: Any) -> Recipe:
    return recipe_of(SMALL, name, changes)


@pytest.fixture(scope="module")
def data():
    return Digits(train_limit=60, test_limit=10).load(2)


@pytest.mark.parametrize("name", PRESETS)
def test_objects_of_a_preset(name: str, data: Any) -> None:
    preset = recipe(name)
    task, _ = build(preset, data)
    objective, schedule, branches = EXPECTED[name]
    assert task.method.objective == objective
    assert (preset.method.branches and preset.method.branches.branch_weight) == schedule
    assert task.current_branch_weight == (schedule(0, 1) if schedule else 0)
    assert len(task.model.branches) == branches
    assert preset.method.initialise is (name in ("initialised", "initialised_loss_sum", "stages_and_steps"))
    network: Any = task.model.network
    block = network.layer1[0]
    assert type(block) is {"sew": SEWBlock, "ms": MSBlock}.get(name, BasicBlock)
    neurons = [module for module in network.modules() if hasattr(module, "detach_membrane")]
    assert all(neuron.detach_membrane is (name == "sltt") for neuron in neurons)
    if name != "ms":
        assert torch.allclose(block.spike2.norm.weight, torch.tensor(0.5**0.5 if name == "tdbn" else 1.0))


def test_the_default_method_is_vanilla() -> None:
    assert Recipe().method == recipe_of("vanilla").method


def test_parts_of_a_method_combine(data: Any) -> None:
    branches = {"branch_weight": {"kind": "linear", "initial": 0.3}, "taps": "blocks"}
    task, _ = build(recipe("deep_supervision", method={"branches": branches}), data)
    assert len(task.model.branches) == 7
    assert (task.method.objective, task.method.branch_weight) == (LossSum(), LinearDecay(0.3))
    assert recipe("tet", method={"objective": {"weight": 0.05, "target": 0.0}}).method.objective == TET(0.05, 0.0)
    assert (
        len(build(recipe("initialised_loss_sum", method={"branches": {"taps": "stages"}}), data)[0].model.branches) == 3
    )
    assert not build(recipe("initialised_loss_sum", method={"branches": None}), data)[0].model.branches


def test_a_preset_changes_the_method_and_the_network_only() -> None:
    original = recipe("evolutionary", training={"seed": 7}, neuron={"decay": 0.25})
    for name in PRESETS:
        other = changed(original, name)
        for field in dataclasses.fields(Recipe):
            if field.name not in ("method", "network"):
                assert getattr(other, field.name) == getattr(original, field.name)
        assert other.network.width == 2
        assert changed(changed(other, "initialised_loss_sum"), name) == other


def test_recipes_tasks_and_loaded_networks_can_be_pickled(data: Any) -> None:
    preset = recipe("initialised_loss_sum")
    assert pickle.loads(pickle.dumps(preset)) == preset
    task, _ = build(preset, data)
    batch, network = task.prepare_batch(data.sample(2))[0], load("digits-resnet18")
    copied_task, copied_network = pickle.loads(pickle.dumps((task, network)))
    assert torch.equal(copied_task.model(batch).main, task.model(batch).main)
    images = torch.full((1, 8, 8), 90, dtype=torch.uint8)
    assert torch.equal(copied_network.logits(images), network.logits(images))
