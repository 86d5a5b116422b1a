"""The registry: options from signatures and fields, checked, written back, merged."""

import copy
import pickle
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import pytest
import torch

from shortcut_snn import components
from shortcut_snn.components import Kind, component_of
from shortcut_snn.components.entries import merge, read, write
from shortcut_snn.components.help import option_help, type_text
from shortcut_snn.components.registry import KINDS
from shortcut_snn.nets import SpikingResNet
from shortcut_snn.neurons import LIF

shape = Kind("shape", context=("v",))
body = Kind("body", context=("mass", "colour"))


@shape("box")
@dataclass(frozen=True)
class Box:
    """A box.

    Args:
        width: the width.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"width must be greater than 0, got {self.width}")


@shape("bell")
def bell(v: float, *, height: float = 2.0) -> float:
    """A bell."""
    return height * v


@body("ball")
class Ball:
    """A ball with an outline.

    Args:
        mass: part of the context.
        outline: its shape.
        parts: more shapes.
        texture: a choice.
        count: a number.
        sizes: numbers.
    """

    def __init__(
        self,
        mass: float,
        outline: Annotated[Any, shape] = Box(2.0),
        parts: Annotated[tuple[Any, ...], shape] = (),
        texture: Literal["hard", "soft"] = "hard",
        count: int | None = None,
        sizes: tuple[float, ...] = (),
    ) -> None:
        self.mass, self.outline, self.parts, self.sizes = mass, outline, parts, sizes


@body("shell")
class Shell:
    """A ball without a content."""

    def __init__(self, *, thickness: float = 0.5, lining: Any = Box()) -> None:
        self.thickness = thickness


@pytest.fixture(scope="module", autouse=True)
def forget_kinds():
    yield
    for name in ("shape", "body"):
        del KINDS[name]


def test_a_dataclass_holds_its_own_options():
    box = read(shape, {"kind": "box", "width": 3}, "outline")
    assert box == Box(3.0)
    assert isinstance(box.width, float)
    assert write(box) == {"kind": "box", "width": 3.0}
    assert component_of(box) is shape.find("box")


def test_a_function_is_called_with_its_options():
    config = read(shape, {"kind": "bell", "height": 3}, "outline")
    assert (config(2.0), config.height) == (6.0, 3.0)
    assert write(config) == {"kind": "bell", "height": 3.0}
    assert component_of(config).name == "bell"


def test_a_class_is_built_from_options_and_context():
    entries = {"kind": "ball", "outline": "bell", "parts": ["box", {"kind": "box", "width": 5}], "sizes": [1, 2.5]}
    config = read(body, entries, "body")
    ball = config.build(mass=3.0, colour="red")
    assert (ball.mass, ball.outline(1.0), ball.parts, ball.sizes) == (3.0, 2.0, (Box(1.0), Box(5.0)), (1.0, 2.5))
    assert read(body, write(config), "body") == config
    assert read(body, {"kind": "ball", "parts": "box"}, "body").parts == (Box(1.0),)
    with pytest.raises(ValueError, match=r"body 'ball'.*mass"):
        config.build()


def test_parameters_are_named_in_the_signature():
    assert read(body, {"kind": "shell", "thickness": 1}, "body").build(mass=2.0, colour="red").thickness == 1
    with pytest.raises(ValueError, match=r"body\.outline.*it has: thickness, lining$"):
        read(body, {"kind": "shell", "outline": "box"}, "body")

    @body("vague")
    def vague(*, thickness: float = 0.5, **context: Any) -> object:
        return context

    assert body.make("vague").call(colour="red") == {"colour": "red"}
    with pytest.raises(ValueError, match=r"shell.*mass"):
        body.make("shell").call(mass=2.0)
    with pytest.raises(ValueError, match=r"'vague': replace its \*\* by named parameters, out of mass, colour"):
        body.make("vague").build(mass=2.0, colour="red")


def test_a_default_that_is_a_component_makes_the_option_one():
    assert read(body, {"kind": "shell", "lining": {"kind": "box", "width": 2}}, "body").lining == Box(2.0)
    assert type_text(body.find("shell").options["lining"].annotation) == "a shape"


def test_configs_can_be_pickled_and_copied():
    config = read(body, {"kind": "ball", "count": 3}, "body")
    for twin in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config)):
        assert twin == config
        assert twin.component is config.component
        assert twin != body.make("ball")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (3, ["body", "kind: NAME", "3"]),
        ("bell", ["body.kind", "'bell'", "did you mean ball?", "available: ball"]),
        ({"mass": 1}, ["body.kind is missing", "ball"]),
        ({"kind": "ball", "cuont": 1}, ["body.cuont", "body 'ball'", "did you mean count?"]),
        ({"kind": "ball", "mass": 1}, ["body.mass", "body 'ball'"]),
        ({"kind": "ball", "texture": "firm"}, ["body.texture", "'hard' or 'soft'", "'firm'"]),
        ({"kind": "ball", "count": 1.5}, ["body.count", "a valid integer"]),
        ({"kind": "ball", "count": True}, ["body.count", "a valid integer"]),
        ({"kind": "ball", "count": "1"}, ["body.count", "a valid integer"]),
        ({"kind": "ball", "sizes": [1, "x"]}, ["body.sizes[1]", "a valid number"]),
        ({"kind": "ball", "outline": None}, ["body.outline", "must have a value"]),
        ({"kind": "ball", "outline": {"kind": "box", "width": -1}}, ["body.outline.width", "greater than 0"]),
        ({"kind": "ball", "parts": 3}, ["body.parts", "list"]),
        ({"kind": "ball", "parts": [{"kind": "box", "wide": 1}]}, ["body.parts[0].wide", "shape 'box'"]),
    ],
)
def test_invalid_entries_are_named(entries, words):
    with pytest.raises(ValueError, match="body") as raised:
        read(body, entries, "body")
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_name_can_be_registered_once_unless_its_file_is_imported_again():
    with pytest.raises(ValueError, match="'box' exists already"):
        shape("box")(bell)
    for kind, variant in ((components.network, partial(SpikingResNet, (1,))), (components.neuron, partial(LIF, 0.9))):
        name = {"network": "resnet18", "neuron": "lif"}[kind.name]
        before = kind.find(name).factory
        with pytest.raises(ValueError, match=f"'{name}' exists already, in shortcut_snn"):
            kind(name)(variant)
        assert kind.find(name).factory is before
    for height in (1.0, 2.0):

        @shape("again")
        def again(v: float, *, height: float = height) -> float:
            return height * v

    assert shape.make("again")(1.0) == 2.0


def test_what_is_written_is_read_again():
    @body("bag")
    @dataclass
    class Bag:
        colours: set[str] = field(default_factory=lambda: {"red", "blue"})
        opened: list[str] = field(init=False, default_factory=list)

    assert write(Bag()) == {"kind": "bag", "colours": ["blue", "red"]}
    assert read(body, write(Bag()), "body") == Bag()


def test_an_option_cannot_have_the_name_of_a_part_of_every_component():
    with pytest.raises(ValueError, match=r"'disc' has the option 'kind'.*rename"):

        @body("disc")
        def disc(*, kind: str = "flat") -> str:
            return kind

    with pytest.raises(ValueError, match="'disc' has the option 'build'"):
        body("disc")(lambda build=True: build)
    assert "disc" not in body.components


def test_merging_keeps_the_options_that_the_new_component_has_too():
    base = {"kind": "ball", "count": 5, "thickness": 7, "sizes": [1]}
    assert merge(body, base, {"kind": "shell"}) == {"kind": "shell", "thickness": 7}
    assert merge(body, base, "shell") == {"kind": "shell", "thickness": 7}
    assert merge(body, base, {"count": 8, "sizes": [2]}) == base | {"count": 8, "sizes": [2]}
    assert merge(body, base, None) is None
    assert merge(body, None, {"kind": "ball"}) == {"kind": "ball"}


def test_help_describes_options():
    assert list(body.find("ball").options) == ["outline", "parts", "texture", "count", "sizes"]
    assert option_help(body.find("ball"))["texture"] == "a choice."
    annotations = {name: type_text(option.annotation) for name, option in body.find("ball").options.items()}
    assert annotations["outline"] == "a shape"
    assert annotations["parts"] == "list of shapes"
    assert annotations["count"] == "int or null"
    assert annotations["texture"] == "hard, soft"


def test_help_needs_no_annotations_that_are_imported_for_type_checking_only():
    @shape("hinted")
    def hinted(v: "Absent", *, height: float = 1.0) -> "Absent":  # noqa: F821
        """Return a shape.

        Args:
            height: the height.
        """

    assert option_help(shape.find("hinted")) == {"height": "the height."}


def test_every_built_in_option_has_help():
    import shortcut_snn.recipes  # noqa: F401

    for kind in vars(components).values():
        if not isinstance(kind, Kind):
            continue
        for component in kind.components.values():
            module = component.definition.__module__
            # Components of docstring examples are in no module; those of torch have no help.
            if module.startswith("shortcut_snn") and hasattr(sys.modules[module], component.definition.__name__):
                missing = [name for name, text in option_help(component).items() if not text]
                assert not missing, f"{kind.name} {component.name}: {missing}"


def test_defaults_that_yaml_cannot_hold_are_not_options():
    @body("layered")
    def build(
        mass: int, act: object = torch.relu, layer: type = torch.nn.Linear, dtype: object = torch.float, width: int = 2
    ) -> object:
        return act(layer(mass, width, dtype=dtype)(torch.ones(mass)))

    assert write(body.make("layered")) == {"kind": "layered", "width": 2}
    assert read(body, {"kind": "layered", "width": 3}, "it").build(mass=4).shape == (3,)
    with pytest.raises(ValueError, match="layer"):
        read(body, {"kind": "layered", "layer": "Linear"}, "it")
