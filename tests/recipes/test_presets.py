"""Methods as presets: what a name stands for, what contradicts it, how parts combine."""

import dataclasses
from typing import Any

import pytest
import torch

from shortcut_snn import TET, Constant, LinearDecay, LogitSum, LossSum, SelfDistillation, StepLossSum
from shortcut_snn.data import Digits
from shortcut_snn.method import Shortcut
from shortcut_snn.nets.blocks import BasicBlock, MSBlock, SEWBlock
from shortcut_snn.recipes import PRESETS, Recipe, changed, recipe_of
from shortcut_snn.recipes.build import build
from shortcut_snn.training import RateShortcut

BRANCHED = {
    "shortcut", "evolutionary", "loss_sum", "calibrated", "deep_supervision", "stages_and_steps", "distillation",
}  # fmt: skip
SMALL = {"network": {"width": 2, "time_steps": 2}, "data": {"train_limit": 60, "test_limit": 10}}


def recipe(name: str, **changes: Any) -> Recipe:
    return recipe_of(SMALL, name, changes)


@pytest.fixture(scope="module")
def data():
    return Digits(train_limit=60, test_limit=10).load(2)


@pytest.mark.parametrize(
    ("name", "objective", "schedule"),
    [
        ("vanilla", LogitSum(), None),
        ("shortcut", LogitSum(), Constant(1.0)),
        ("evolutionary", LogitSum(), LinearDecay(0.25)),
        ("loss_sum", LossSum(), LinearDecay(0.25)),
        ("calibrated", LossSum(), LinearDecay(0.25)),
        ("deep_supervision", LossSum(), Constant(1.0)),
        ("stages_and_steps", StepLossSum(), Constant(1.0)),
        ("distillation", SelfDistillation(0.1, 3.0), Constant(1.0)),
        ("tet", TET(0.001, 1.0), None),
        ("tdbn", LogitSum(), None),
        ("sew", LogitSum(), None),
        ("ms", LogitSum(), None),
        ("sltt", LogitSum(), None),
        ("rate", LogitSum(), None),
    ],
)
def test_what_a_name_stands_for(name: str, objective: Any, schedule: Any, data: Any) -> None:
    made = recipe(name)
    task, _ = build(made, data)
    model: Shortcut = task.model
    assert task.objective == objective
    assert (made.method.branches and made.method.branches.schedule) == schedule
    if schedule is not None:
        assert (task.branch_weight, task.current_branch_weight) == (schedule, schedule(0, 1))
    else:
        assert task.current_branch_weight == 0
    assert len(model.branches) == (7 if name in ("loss_sum", "calibrated") else 3 if name in BRANCHED else 0)
    assert made.method.calibrate is (name in ("calibrated", "stages_and_steps"))
    assert (type(model) is RateShortcut) == (name == "rate")
    network: Any = model.network
    assert type(network.layer1[0]) is {"sew": SEWBlock, "ms": MSBlock}.get(name, BasicBlock)
    neurons = [module for module in network.modules() if hasattr(module, "detach_membrane")]
    assert all(neuron.detach_membrane is (name == "sltt") for neuron in neurons)
    block = network.layer1[0]
    if name == "tdbn":
        assert torch.allclose(block.spike2.norm.weight, torch.full((2,), 0.5**0.5))
    elif name != "ms":
        assert torch.equal(block.spike2.norm.weight, torch.ones(2))


def test_every_preset_is_of_a_family() -> None:
    assert set(PRESETS) >= BRANCHED
    assert {name for name in PRESETS if recipe(name).method.branches} == BRANCHED


def test_what_is_not_named_trains_without_branches() -> None:
    assert Recipe().method == recipe_of("vanilla").method


def test_parts_combine(data: Any) -> None:
    assert recipe("evolutionary", network={"norm": "tdbn", "block": "ms"}, method={"gradient": "sltt"})
    assert type(build(recipe("evolutionary", method={"gradient": "rate"}), data)[0].model) is RateShortcut
    branches = {"schedule": {"kind": "linear", "initial": 0.3}, "taps": "blocks"}
    task, _ = build(recipe("deep_supervision", method={"branches": branches}), data)
    assert (len(task.model.branches), task.objective, task.branch_weight) == (7, LossSum(), LinearDecay(0.3))
    assert build(recipe("deep_supervision", method={"objective": {"average": True}}), data)[0].objective.average
    assert recipe("tet", method={"objective": {"weight": 0.05, "target": 0.0}}).method.objective == TET(0.05, 0.0)
    options = {"share": 0.5, "temperature": 2.0}
    assert recipe("distillation", method={"objective": options}).method.objective == SelfDistillation(0.5, 2.0)
    assert len(build(recipe("calibrated", method={"branches": {"taps": "stages"}}), data)[0].model.branches) == 3
    assert not build(recipe("calibrated", method={"branches": None}), data)[0].model.branches


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("tet", {"method": {"branches": {"taps": "blocks"}}}, "the objective tet has no use for branches"),
        ("evolutionary", {"method": {"objective": "tet"}}, "the objective tet has no use for branches"),
        ("evolutionary", {"method": {"objective": {"weight": 0.5}}}, "objective 'logit_sum' has no entry 'weight'"),
        ("rate", {"method": {"calibrate": True}}, "calibrate needs gradients through time"),
        ("calibrated", {"method": {"gradient": "rate"}}, "calibrate needs gradients through time"),
        ("tet", {"method": {"gradient": "rate"}}, "no logits of single time steps"),
        ("sew", {"network": {"kind": "vgg11", "block": "sew"}}, "network 'vgg11' has no entry 'block'"),
    ],
)
def test_contradictions_are_one_sentence(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        recipe(name, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["rate", "evolutionary"])
def test_there_is_no_rate_gradient_of_a_learned_decay(name: str, data: Any) -> None:
    with pytest.raises(ValueError, match="no gradient for"):
        build(recipe(name, method={"gradient": "rate"}, neuron="plif"), data)


def test_a_preset_leaves_the_rest_alone() -> None:
    made = recipe("evolutionary", training={"seed": 7}, neuron={"decay": 0.25})
    for name in PRESETS:
        other = changed(made, name)
        for field in dataclasses.fields(Recipe):
            if field.name not in ("method", "network"):
                assert getattr(other, field.name) == getattr(made, field.name)
        assert other.network.width == 2
        # And any other takes its place.
        assert changed(changed(other, "calibrated"), name) == other
