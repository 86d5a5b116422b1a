"""Recipes: merged once, complete, and every mistake named."""

import pytest

from shortcut_snn import components
from shortcut_snn.recipes import PRESETS, Recipe, changed, recipe_of
from shortcut_snn.recipes.entries import built_in, from_dict, layer, merged, read_recipe, said, write_recipe
from shortcut_snn.yaml_text import as_yaml, parse


@pytest.mark.parametrize("name", [*built_in(), *PRESETS])
def test_everything_built_in_is_a_recipe_that_stays_itself(name, tmp_path):
    recipe = recipe_of(name)
    assert from_dict(recipe.to_dict()) == recipe
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


def test_a_recipe_is_complete():
    def full(entries):
        for key, value in entries.items():
            assert not isinstance(value, dict) or key == "branches" or value, key
            if isinstance(value, dict):
                full(value)

    full(Recipe().to_dict())


def test_later_layers_win():
    recipe = recipe_of("digits", "vanilla", {"network": {"width": 8}}, said(["network.width=4", "training.epochs=3"]))
    assert recipe.method.branches is None
    assert (recipe.network.width, recipe.training.epochs, recipe.neuron.surrogate.width) == (4, 3, 1.0)


def test_layers_that_leave_the_kind_to_others_are_merged_in_depth():
    options = ["neuron.surrogate.kind=atan", "neuron.surrogate.alpha=3", "neuron.decay=0.25"]
    neuron = recipe_of(said(options)).neuron
    assert (type(neuron.surrogate).__name__, neuron.surrogate.alpha, neuron.decay) == ("ATan", 3, 0.25)
    assert said([*options, "neuron.surrogate.kind=triangle"])["neuron"]["surrogate"] == {"kind": "triangle"}


def test_options_may_stand_before_the_kind_that_they_are_of():
    first = ["neuron.surrogate.alpha=3", "network.width=8", "neuron.surrogate.kind=atan", "network.kind=resnet20"]
    recipe = recipe_of(said(first))
    assert (recipe.neuron.surrogate.alpha, recipe.network.width) == (3, 8)
    for option in ("network.widht=32", "neuron.surrogate.widht=2", "optimizer.momentum=0.9"):
        with pytest.raises(ValueError, match=f"has no entry '{option.partition('=')[0].rpartition('.')[2]}'"):
            recipe_of(said([option, "network.kind=resnet20", "neuron.surrogate.kind=triangle", "optimizer.kind=adamw"]))


@pytest.mark.parametrize(
    "text", ["08", "1e5", "1:30", "yes", "null", "0x10", "1_000", "2026-01-01", ".inf", "~", "plain"]
)
def test_a_text_stays_one_in_a_file(text, tmp_path):
    recipe = recipe_of({"data": {"kind": "folder", "root": text}})
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert parse(as_yaml({"a": text, "b": [1, 2.5, True, None]})) == {"a": text, "b": [1, 2.5, True, None]}


def test_presets_that_are_no_names_are_refused(tmp_path):
    (tmp_path / "odd.yaml").write_text("presets: [{a: 1}]\n")
    with pytest.raises(ValueError, match="presets is a list of some of"):
        layer(tmp_path / "odd.yaml")


def test_a_preset_takes_the_place_of_another():
    base = recipe_of("digits").to_dict()
    for name in PRESETS:
        alone, over = recipe_of(name).method, recipe_of(base, "calibrated", name).method
        assert over == alone


@pytest.mark.parametrize("kind", list(components.objective))
def test_a_preset_leaves_no_option_of_the_method_before_it(kind):
    odd = {"objective": {"kind": kind}, "calibrate": False}
    for name, now in components.write(recipe_of({"method": odd}).method.objective).items():
        if name != "kind":
            odd["objective"][name] = not now if isinstance(now, bool) else now / 2 + 0.25
    for name in PRESETS:
        assert recipe_of({"method": odd}, name).method == recipe_of(name).method, name


def test_presets_are_what_the_papers_say():
    evolutionary = recipe_of("evolutionary").method
    assert (evolutionary.branches.taps, evolutionary.branches.schedule(0, 10)) == ("stages", 0.25)
    assert evolutionary.branches.schedule(10, 10) == 0
    assert recipe_of("shortcut").method.branches.schedule(7, 10) == 1.0
    assert recipe_of("vanilla").method.branches is None
    assert recipe_of("calibrated").method.calibrate
    assert recipe_of("sew").network.block == "sew"
    assert recipe_of("tdbn").network.norm == "tdbn"


def test_options_belong_to_their_owner():
    with pytest.raises(ValueError, match=r"network\.block: network 'vgg11' has no entry 'block'"):
        recipe_of({"network": {"kind": "vgg11", "block": "ms"}})
    # What a recipe says of one network is no word on another.
    assert (
        recipe_of({"network": {"kind": "resnet18", "block": "ms", "width": 8}}, {"network": "vgg11"}).network.width == 8
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"network": {"width": 0}}, "network.*width"),
        ({"network": {"widht": 3}}, "did you mean width"),
        ({"nework": {}}, "nework: the recipe has no entry 'nework'.*did you mean network"),
        ({"training": {"epochs": 0}}, "training.epochs should be greater than or equal to 1"),
        ({"training": {"warmup": 1.5}}, "training.warmup should be less than 1"),
        ({"training": 3}, "training must be"),
        ({"training": {"seed": 2**32}}, "training.seed should be less than"),
        ({"optimizer": {"kind": "sdg"}}, "optimizer.kind: unknown optimizer 'sdg'.*did you mean sgd"),
        ({"optimizer": {"foreach": True, "fused": True}}, "optimizer: .*fused.*foreach"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr should be a number"),
        ({"neuron": {"surrogate": {"kind": "rectangle", "width": -1}}}, "neuron.surrogate.*width"),
        ({"task": {"kind": "clasification"}}, "did you mean classification"),
        ({"method": {"objective": "tet", "branches": {}}}, "tet has no use for branches"),
        (
            {"method": {"objective": "tet", "gradient": "rate"}},
            "gradient rate has no logits of single time steps, which tet needs",
        ),
        (
            {"method": {"gradient": "rate", "calibrate": True}},
            "calibrate needs gradients through time",
        ),
        ({"method": {"branches": {"taps": 3}}}, "method.branches.taps"),
        ({"data": None}, "data must have a value"),
        ({"data": {"kind": "cifar10"}}, "data.*root"),
    ],
)
def test_what_makes_no_sense_is_named(entries, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(entries)


def test_torchs_optimizers_have_their_own_options():
    optimizer = recipe_of({"optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}}).optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (0.1, 0.9, True)
    assert recipe_of({"optimizer": {"kind": "adamw", "betas": [0.9, 0.95]}}).optimizer.betas == (0.9, 0.95)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1:30", "1:30"), ("yes", "yes"), ("true", True), ("[a, b]", ["a", "b"]), ("null", None),
     ("3", 3), ("-.5", -0.5), (".inf", float("inf")), ("010", 10), ("2026-01-01", "2026-01-01")],
)  # fmt: skip
def test_yaml_means_what_people_mean(text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "'a' stands twice"),
        ("a: &x [1]\nb: *x", "references"),
        ("a: &x [*x]", "references"),
        ("[1", "not YAML"),
        ("a: " + "[" * 2000, "not YAML"),
    ],
)
def test_yaml_that_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("presets: [calibrated]\nnetwork: {width: 4}\n")
    assert recipe_of(path).method.calibrate
    path.write_text("presets: [clibrated]\n")
    with pytest.raises(ValueError, match="presets is a list of some of vanilla"):
        recipe_of(path)
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match="expected entries like"):
        layer(path)
    with pytest.raises(ValueError, match=r"no recipe or preset 'digts' \(did you mean digits\?\)"):
        layer("digts")


def test_entries_of_options():
    assert said(["network.width=32", "data.augment=[crop]"]) == {
        "network": {"width": 32},
        "data": {"augment": ["crop"]},
    }
    with pytest.raises(ValueError, match="is no entry: write KEY=VALUE"):
        said(["network.width"])
    with pytest.raises(ValueError, match=r"network\.width: '\[1' is no value"):
        said(["network.width=[1"])


def test_changes():
    recipe = recipe_of("digits")
    assert changed(recipe, "vanilla", {"training": {"epochs": 1}}).training.epochs == 1
    assert changed(recipe, {}) == recipe
    assert merged({"network": "resnet34"}, {"network": {"width": 4}}) == {"network": {"kind": "resnet34", "width": 4}}


def test_a_recipe_says_what_it_is():
    assert str(recipe_of("digits")) == "resnet18 on digits, branches at stages, logit_sum, lambda linear from 0.25"
    assert str(recipe_of("digits", "sltt")) == "resnet18 on digits, no branches, sltt"
