"""Recipes: merged once, complete, and every mistake named by its key."""

import dataclasses
import json
import os

import pytest

from shortcut_snn import components
from shortcut_snn._utils.yaml_text import as_yaml, parse
from shortcut_snn.components.entries import read, write
from shortcut_snn.recipes import Recipe, changed, parse_options, recipe_of
from shortcut_snn.recipes.entries import PRESETS, built_in, from_dict, layer, merged, write_recipe
from shortcut_snn.training import RunFolder, Training

from ..deploy.test_network_files import mutated


@pytest.mark.parametrize("name", [*built_in(), *PRESETS])
def test_every_built_in_recipe_survives_writing_and_reading(name, tmp_path):
    recipe = recipe_of(name)
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert recipe_of(tmp_path / "recipe.yaml") == from_dict(recipe.to_dict()) == recipe


def test_later_layers_override_earlier_ones():
    options = parse_options(["network.width=4", "training.epochs=3"])
    recipe = recipe_of("digits", "vanilla", {"network": {"width": 8}}, options)
    assert recipe.method.branches is None
    assert (recipe.network.width, recipe.training.epochs, recipe.neuron.surrogate.width) == (4, 3, 1.0)
    assert merged({"network": "resnet34"}, {"network": {"width": 4}}) == {"network": {"kind": "resnet34", "width": 4}}
    assert changed(recipe, {}) == recipe
    assert changed(recipe, {"training": {"epochs": 1}}).training.epochs == 1


def test_nested_components_are_merged_by_kind():
    options = ["neuron.surrogate.kind=atan", "neuron.surrogate.alpha=3", "neuron.decay=0.25"]
    neuron = recipe_of(parse_options(options)).neuron
    assert (type(neuron.surrogate).__name__, neuron.surrogate.alpha, neuron.decay) == ("ATan", 3, 0.25)
    replaced = parse_options([*options, "neuron.surrogate.kind=triangle"])
    assert replaced["neuron"]["surrogate"] == {"kind": "triangle"}


def test_another_kind_drops_the_options_that_it_does_not_have():
    """The recipe ``digits`` sets a surrogate without naming the neuron, and I-LIF neurons have none."""
    recipe = recipe_of("digits", {"neuron": {"kind": "ilif"}})
    assert components.component_of(recipe.neuron).name == "ilif"


@pytest.mark.parametrize(
    "layers", [({"neuron": {"kind": "ilif", "most": 2}},), ("cifar10-cpu", {"neuron": {"most": 2}})]
)
def test_a_renamed_option_is_read_by_its_old_name(layers):
    assert write(recipe_of(*layers).neuron)["max_spikes"] == 2


def test_a_run_with_former_names_resumes(tmp_path):
    data = {"kind": "nmnist_npz", "root": "x.npz", "augment": [{"kind": "crop", "padding": 0.25}]}
    recipe = recipe_of({"data": data, "neuron": {"kind": "ilif", "most": 2}})
    assert (write(recipe.data)["kind"], recipe.data.root) == ("events_npz", "x.npz")
    former = recipe.to_dict()
    former["data"]["kind"], former["neuron"]["most"] = "nmnist_npz", former["neuron"].pop("max_spikes")
    (tmp_path / "recipe.yaml").write_text(json.dumps(former))
    (tmp_path / "environment.json").write_text("{}")
    RunFolder(tmp_path).check_recipe(recipe.to_dict())
    assert read(components.augmentation, {"kind": "resized_crop", "least": 0.1}, "").min_area == 0.1


def test_an_option_may_stand_before_its_kind():
    options = ["neuron.surrogate.alpha=3", "network.width=8", "neuron.surrogate.kind=atan", "network.kind=resnet20"]
    recipe = recipe_of(parse_options(options))
    assert (recipe.neuron.surrogate.alpha, recipe.network.width) == (3, 8)
    assert recipe_of(parse_options(["network.width=8", "network=resnet20"])).network.width == 8
    for key in ("network.widht", "optimizer.momentum"):
        with pytest.raises(ValueError, match=rf"^{key}:"):
            recipe_of(parse_options([f"{key}=0.9", "network.kind=resnet20", "optimizer.kind=adamw"]))


@pytest.mark.parametrize("kind", list(components.objective))
def test_a_preset_resets_all_options_of_the_method(kind):
    odd = {"objective": {"kind": kind}, "initialise": False}
    for name, default in write(recipe_of({"method": odd}).method.objective).items():
        if name != "kind":
            odd["objective"][name] = not default if isinstance(default, bool) else default / 2 + 0.25
    for name in PRESETS:
        assert recipe_of({"method": odd}, name).method == recipe_of(name).method, name


def test_options_belong_to_one_component():
    with pytest.raises(ValueError, match=r"network\.block: network 'vgg11'"):
        recipe_of({"network": {"kind": "vgg11", "block": "ms"}})
    residual = {"network": {"kind": "resnet18", "block": "ms", "width": 8}}
    assert recipe_of(residual, {"network": "vgg11"}).network.width == 8
    optimizer = recipe_of({"optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}}).optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (0.1, 0.9, True)
    assert recipe_of({"optimizer": {"kind": "adamw", "betas": [0.9, 0.95]}}).optimizer.betas == (0.9, 0.95)


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"network": {"width": 0}}, r"network\.width"),
        ({"network": {"widht": 3}}, "did you mean width"),
        ({"nework": {}}, r"^nework: .*did you mean network"),
        ({"training": {"epochs": 0}}, r"training\.epochs"),
        ({"training": {"warmup": 1.5}}, r"training\.warmup"),
        ({"training": 3}, "training must be"),
        ({"optimizer": {"kind": "sdg"}}, r"optimizer\.kind.*did you mean sgd"),
        ({"optimizer": {"foreach": True, "fused": True}}, "optimizer: .*fused.*foreach"),
        ({"optimizer": {"lr": "fast"}}, r"optimizer\.lr.*number"),
        ({"neuron": {"surrogate": {"kind": "rectangle", "width": -1}}}, r"neuron\.surrogate.*width"),
        ({"method": {"objective": "tet", "branches": {}}}, r"method\.branches.*tet"),
        ({"method": {"branches": {"taps": 0}}}, r"method\.branches\.taps"),
        ({"lr_schedule": "onecycle", "training": {"warmup": 0.1}}, r"training\.warmup: onecycle"),
        ({"lr_schedule": {"kind": "onecycle", "pct_start": 1}}, r"lr_schedule\.pct_start should be less than 1"),
        ({"data": None}, "data must have a value"),
        ({"data": {"kind": "cifar10"}}, "data.*root"),
    ],
)
def test_invalid_entries_are_named(entries, match):
    with pytest.raises(ValueError, match=match):
        recipe_of(entries)


def test_options_that_are_not_entries():
    for option in ("network.width", "network.width=[1"):
        with pytest.raises(ValueError, match=r"network\.width"):
            parse_options([option])


def test_yaml_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("presets: [initialised]\nnetwork: {width: 4}\n")
    assert recipe_of(path).method.initialise
    for text in ("presets: [clibrated]\n", "presets: [{a: 1}]\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"mine\.yaml: presets.*vanilla"):
            recipe_of(path)
    path.write_text("network: {width: 4}\n", encoding="utf-16")
    assert recipe_of(path).network.width == 4
    path.write_bytes(b"network: \xe9")
    with pytest.raises(ValueError, match=r"mine\.yaml is not YAML: unacceptable character"):
        layer(path)
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match=r"mine\.yaml is not a recipe"):
        layer(path)
    with pytest.raises(ValueError, match=r"'digts' \(did you mean digits\?\)"):
        layer("digts")
    with pytest.raises(ValueError, match=r"^the recipe nothere\.yaml does not exist"):
        layer("nothere.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1:30", "1:30"), ("yes", "yes"), ("true", True), ("[a, b]", ["a", "b"]), ("null", None),
     ("3", 3), ("-.5", -0.5), (".inf", float("inf")), ("010", 10), ("2026-01-01", "2026-01-01")],
)  # fmt: skip
def test_yaml_values(text, value):
    assert parse(text) == value


@pytest.mark.parametrize("text", ["08", "1e5", "1:30", "yes", "null", "0x10", "1_000", "2026-01-01", ".inf", "~", "a"])
def test_text_stays_text_in_yaml(text):
    entries = {"a": text, "b": [1, 2.5, True, None]}
    assert parse(as_yaml(entries)) == entries


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: 1\na: 2", "'a'.*twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("[1", "not YAML"),
        ("a: " + "[" * 2000, "not YAML"),
    ],
)
def test_yaml_that_is_refused(text, match):
    with pytest.raises(ValueError, match=match):
        parse(text)


def test_damaged_and_malicious_recipes_run_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = built_in()["digits"].read_text()
    texts = [mutated(digits.encode(), seed).decode("latin-1") for seed in range(40)]
    texts += ["\n".join(digits.splitlines()[:count]) for count in range(len(digits.splitlines()))]
    texts += [
        "training: !!python/object/apply:os.system ['touch victim']",
        "network: !!python/name:os.system",
        "training: {epochs: 2020-99-99}",
        "data: /etc/passwd",
        "\x00",
        "- training",
        "training:\n  epochs: .nan",
    ]
    path, refused = tmp_path / "recipe.yaml", 0
    for text in texts:
        path.write_text(text, encoding="utf-8")
        try:
            recipe_of(path)
        except ValueError as error:
            message = str(error)
        else:
            # A damaged recipe may still be a recipe, with another number.
            continue
        assert "\n" not in message
        refused += 1
        assert os.listdir(tmp_path) == ["recipe.yaml"], text
    assert refused > 25


def test_str_of_a_recipe():
    text = "resnet18 on digits, branches at stages, logit_sum, lambda linear from 0.25"
    assert str(recipe_of("digits", "evolutionary")) == text
    assert str(recipe_of("digits", "sltt")) == "resnet18 on digits, no branches, sltt"


def test_to_dict_is_complete():
    recipe = Recipe()
    entries = recipe.to_dict()
    assert entries.keys() == {field.name for field in dataclasses.fields(Recipe)}
    for name in ("data", "network", "neuron", "task", "optimizer", "lr_schedule"):
        component = components.component_of(getattr(recipe, name))
        assert entries[name].keys() == {"kind", *component.options}
    assert entries["training"].keys() == {field.name for field in dataclasses.fields(Training)}
    assert entries["neuron"]["surrogate"] == {"kind": "rectangle", "width": 1.0}
