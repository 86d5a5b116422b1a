"""Methods as named recipes: what a name stands for, what contradicts it, what a comparison makes of it."""

import dataclasses
from functools import reduce
from typing import Any, get_args

import pytest
import torch

from shortcut_snn import TET, Constant, LinearDecay, LogitSum, LossSum, SelfDistillation
from shortcut_snn.method import Shortcut
from shortcut_snn.nets.blocks import BasicBlock, MSBlock, SEWBlock
from shortcut_snn.training import build, recipe_io
from shortcut_snn.training.compare import Plan
from shortcut_snn.training.methods import KINDS, Method, resolved
from shortcut_snn.training.rate_backprop import RateShortcut
from shortcut_snn.training.recipe import Recipe

BRANCHED = {"shortcut", "evolutionary", "calibrated", "deep_supervision", "distillation"}


def recipe(name: str, **changes: Any) -> Recipe:
    entries = {key.replace("__", "."): value for key, value in changes.items()}
    return recipe_io.changed(Recipe(), {"network.width": 2, "network.time_steps": 2, "method.name": name} | entries)


def built(made: Recipe) -> tuple[Shortcut, Any, Any]:
    network = build.network(made, 3, 1)
    return build.shortcut(made, network), build.objective(made.method, 0.1), build.balance(made.method)


@pytest.mark.parametrize(
    ("name", "objective", "balance"),
    [
        ("vanilla", LogitSum(0.1), Constant(0.0)),
        ("shortcut", LogitSum(0.1), Constant(1.0)),
        ("evolutionary", LogitSum(0.1), LinearDecay(0.25)),
        ("calibrated", LossSum(label_smoothing=0.1), LinearDecay(0.25)),
        ("deep_supervision", LossSum(label_smoothing=0.1), Constant(1.0)),
        ("distillation", SelfDistillation(0.1, 3.0, 0.1), Constant(1.0)),
        ("tet", TET(0.001, 1.0, 0.1), Constant(0.0)),
        ("tdbn", LogitSum(0.1), Constant(0.0)),
        ("sew", LogitSum(0.1), Constant(0.0)),
        ("ms", LogitSum(0.1), Constant(0.0)),
        ("sltt", LogitSum(0.1), Constant(0.0)),
        ("rate", LogitSum(0.1), Constant(0.0)),
    ],
)
def test_what_a_name_stands_for(name: str, objective: Any, balance: Any) -> None:
    made = recipe(name)
    model, own_objective, own_balance = built(made)
    assert (own_objective, own_balance) == (objective, balance)
    assert len(model.branches) == (7 if name == "calibrated" else 3 if name in BRANCHED else 0)
    assert resolved(made).neuron.surrogate.calibrate is (name == "calibrated")
    assert (type(model) is RateShortcut) == (name == "rate")
    network = model.network
    assert type(network.layer1[0]) is {"sew": SEWBlock, "ms": MSBlock}.get(name, BasicBlock)
    assert all(neuron.detach_membrane is (name == "sltt") for neuron in _neurons(network))
    tdbn = network.layer1[0]
    if name == "tdbn":
        assert torch.allclose(tdbn.spike2.norm.weight, torch.full((2,), 0.5**0.5))
    elif name not in ("ms",):
        assert torch.equal(tdbn.spike2.norm.weight, torch.ones(2))


def _neurons(network: torch.nn.Module) -> list[Any]:
    return [module for module in network.modules() if hasattr(module, "detach_membrane")]


def test_every_name_is_in_the_table() -> None:
    assert set(KINDS) == set(get_args(Method))


@pytest.mark.parametrize("name", get_args(Method))
def test_resolved_says_the_same_in_full(name: str) -> None:
    made = recipe(name)
    before = made.to_dict()
    whole = resolved(made)
    assert made.to_dict() == before
    assert resolved(whole) == whole
    assert None not in (whole.method.taps, whole.method.objective, whole.method.schedule, whole.method.initial)
    for key, value in KINDS[name].sets.items():
        assert reduce(getattr, key.split("."), whole) == value


def test_parts_combine() -> None:
    assert recipe("evolutionary", network__norm="tdbn", network__block="ms", neuron__gradient="sltt")
    assert type(built(recipe("evolutionary", neuron__gradient="rate"))[0]) is RateShortcut
    model, objective, balance = built(
        recipe("deep_supervision", method__schedule="linear", method__initial=0.3, method__taps="blocks")
    )
    assert (len(model.branches), objective, balance) == (7, LossSum(label_smoothing=0.1), LinearDecay(0.3))
    assert built(recipe("deep_supervision", method__objective="loss_mean"))[1].average
    assert built(recipe("tet", method__tet={"weight": 0.05, "target": 0.0}))[1] == TET(0.05, 0.0, 0.1)
    changes = {"method__distillation__share": 0.5, "method__distillation__temperature": 2.0}
    assert built(recipe("distillation", **changes))[1] == SelfDistillation(0.5, 2.0, 0.1)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("sew", {"network__block": "ms"}, "network.block: method sew means sew, not ms"),
        ("sltt", {"neuron__gradient": "rate"}, "neuron.gradient: method sltt means sltt, not rate"),
        ("tet", {"method__taps": "blocks"}, "method.taps makes no difference to tet"),
        ("tet", {"method__objective": "loss_sum"}, "tet is not trained with loss_sum; leave it out"),
        ("deep_supervision", {"method__objective": "logit_sum"}, "use loss_sum or loss_mean"),
        ("evolutionary", {"method__tet__weight": 0.5}, "method.tet makes no difference to evolutionary"),
        ("tdbn", {"method__initial": 0.5}, "method.initial makes no difference to tdbn"),
        ("rate", {"neuron__kind": "plif"}, "no gradient for the tau"),
        ("evolutionary", {"neuron__gradient": "rate", "neuron__kind": "plif"}, "no gradient for the tau"),
        ("rate", {"neuron__surrogate__calibrate": True}, "leave it out with gradient rate"),
        ("calibrated", {"neuron__gradient": "rate"}, "use evolutionary with gradient rate"),
        ("tet", {"neuron__gradient": "rate"}, "no logits of single time steps"),
    ],
)
def test_contradictions_are_one_sentence(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        recipe(name, **changes)
    assert "\n" not in str(error.value)


def test_what_is_not_named_is_what_is_recommended() -> None:
    assert Recipe().method.name == "calibrated"


def test_calibrated_is_what_its_parts_are() -> None:
    parts = {"method__objective": "loss_sum", "method__taps": "blocks", "neuron__surrogate__calibrate": True}
    whole, named = resolved(recipe("evolutionary", **parts)), resolved(recipe("calibrated"))
    whole.method.name = "calibrated"
    assert whole == named
    assert len(built(recipe("calibrated", method__taps="stages"))[0].branches) == 3
    assert not built(recipe("calibrated", method__taps=[]))[0].branches


def test_vanilla_takes_any_entry_of_branches_as_it_ever_did() -> None:
    made = recipe("vanilla", method__taps="blocks", method__objective="loss_sum", method__schedule="cosine")
    assert not built(made)[0].branches


def test_a_recipe_of_before_the_rivals_is_the_same() -> None:
    entries = {"name": "evolutionary", "taps": "stages", "objective": "logit_sum", "schedule": None, "initial": None}
    old = recipe_io.from_dict({"method": entries})
    assert resolved(old) == resolved(recipe_io.from_dict({"method": {"name": "evolutionary"}}))


def test_each_method_of_a_comparison_takes_what_concerns_it() -> None:
    shared = Recipe()
    shared.method.taps, shared.method.tet.weight, shared.method.objective = "blocks", 0.05, "loss_mean"
    plan = Plan.parse(shared, ",".join(set(get_args(Method)) - {"shortcut"}), 1)
    made = {variant.label: variant.recipe.method for variant in plan.variants}
    assert {name for name, method in made.items() if method.taps == "blocks"} == BRANCHED - {"shortcut"}
    assert {name for name, method in made.items() if method.objective} == {
        "evolutionary",
        "calibrated",
        "deep_supervision",
    }
    assert {name for name, method in made.items() if method.tet.weight == 0.05} == {"tet"}
    assert all(method.name == name for name, method in made.items())


def test_a_grid_over_what_some_do_not_take_runs_those_once() -> None:
    plan = Plan.parse(
        Recipe(), "vanilla,tet,distillation", 1, ["method.tet.weight=0,0.05", "method.taps=stages,blocks"]
    )
    assert [variant.label for variant in plan.variants] == [
        "vanilla",
        "tet tet.weight=0",
        "distillation taps=stages",
        "distillation taps=blocks",
        "tet tet.weight=0.05",
    ]


def test_a_method_carries_entries_of_any_section() -> None:
    plan = Plan.parse(Recipe(), "tet:tet.weight=0.05:network.norm=tdbn,evolutionary:neuron.gradient=rate", 1)
    first, second = (variant.recipe for variant in plan.variants)
    assert (first.method.tet.weight, first.network.norm) == (0.05, "tdbn")
    assert second.neuron.gradient == "rate"
    assert len({variant.folder for variant in plan.variants}) == 2


@pytest.mark.parametrize(
    ("methods", "grid", "said"),
    [
        ("tet:taps=blocks", [], "method.taps makes no difference to tet"),
        ("vanilla:taps=blocks", [], "method.taps makes no difference to vanilla"),
        ("tdbn:network.norm=bn", [], "method tdbn means tdbn, not bn"),
        ("sew", ["network.block=basic,sew"], "method sew means sew, not basic"),
        ("rate:neuron.kind=plif", [], "no gradient for the tau"),
        ("tet:tet.wait=1", [], "no entry 'method.tet.wait'"),
    ],
)
def test_comparisons_that_contradict_themselves(methods: str, grid: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan.parse(Recipe(), methods, 1, grid)


def test_resolving_leaves_the_rest_alone() -> None:
    made = recipe("tet", train__seed=7)
    whole = resolved(made)
    for field in dataclasses.fields(Recipe):
        if field.name not in ("method",):
            assert getattr(whole, field.name) == getattr(made, field.name)
