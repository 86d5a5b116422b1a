"""The registry: options from signatures and fields, checked, written back, merged."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict, Unpack

import pytest
import torch

from shortcut_snn import components
from shortcut_snn.components import Kind, hint_text, kind_and_name, merge, options, read, suggestion, write

shape = Kind("shape", ("v",))
body = Kind("body", ("mass",))


@shape("box")
@dataclass(frozen=True)
class Box:
    """A box.

    Args:
        width: how wide.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"width must be greater than 0, got {self.width}")


@shape("bell")
def bell(v: float, *, height: float = 2.0) -> float:
    """A bell.

    Args:
        v: where.
        height: how high.
    """
    return height * v


@body("ball")
class Ball:
    """A ball of a shape.

    Args:
        mass: known from elsewhere.
        outline: its shape.
        parts: more shapes.
        kind_of: a choice.
        count: a number.
        sizes: numbers.
    """

    def __init__(
        self,
        mass: float,
        outline: Annotated[Any, shape] = Box(2.0),
        parts: Annotated[tuple[Any, ...], shape] = (),
        kind_of: Literal["hard", "soft"] = "hard",
        count: int | None = None,
        sizes: tuple[float, ...] = (),
    ) -> None:
        self.mass, self.outline, self.parts, self.kind_of, self.count, self.sizes = (
            mass, outline, parts, kind_of, count, sizes,
        )  # fmt: skip


def test_a_dataclass_is_its_own_options():
    made = read(shape, {"kind": "box", "width": 3}, "outline")
    assert made == Box(3.0)
    assert isinstance(made.width, float)
    assert write(made) == {"kind": "box", "width": 3.0}
    assert kind_and_name(made) == (shape, "box")


def test_a_function_is_called_with_its_options():
    made = read(shape, {"kind": "bell", "height": 3}, "outline")
    assert made(2.0) == 6.0
    assert write(made) == {"kind": "bell", "height": 3.0}


def test_a_class_is_built_of_options_and_what_is_given():
    entries = {"kind": "ball", "outline": "bell", "parts": ["box", {"kind": "box", "width": 5}], "sizes": [1, 2.5]}
    made = read(body, entries, "body")
    ball = made.build(mass=3.0, colour="red")
    assert (ball.mass, ball.outline(1.0), ball.parts, ball.sizes) == (3.0, 2.0, (Box(1.0), Box(5.0)), (1.0, 2.5))
    assert read(body, write(made), "body") == made
    with pytest.raises(ValueError, match="body 'ball' takes mass, which nothing here tells"):
        made.build()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (3, "body is a group of entries, {kind: NAME, ...} or a name, got 3"),
        ("bell", r"body.kind: unknown body 'bell' \(did you mean ball\?\); there are: ball"),
        ({"kind": "bal"}, r"did you mean ball"),
        ({"mass": 1}, "body.kind is missing: one of ball"),
        ({"kind": "ball", "cuont": 1}, r"body.cuont: body 'ball' has no entry 'cuont' \(did you mean count\?\)"),
        ({"kind": "ball", "mass": 1}, "body.mass: body 'ball' has no entry 'mass'"),
        ({"kind": "ball", "kind_of": "firm"}, "body.kind_of should be 'hard' or 'soft', got 'firm'"),
        ({"kind": "ball", "count": 1.5}, "body.count should be a whole number"),
        ({"kind": "ball", "count": True}, "body.count should be a whole number"),
        ({"kind": "ball", "count": "1"}, "body.count should be a whole number"),
        ({"kind": "ball", "sizes": [1, "x"]}, r"body.sizes\[1\] should be a number"),
        ({"kind": "ball", "outline": None}, "body.outline must have a value"),
        ({"kind": "ball", "outline": {"kind": "box", "width": -1}}, "body.outline.*width must be greater than 0"),
        ({"kind": "ball", "parts": 3}, "body.parts is a list"),
        ({"kind": "ball", "parts": [{"kind": "box", "wide": 1}]}, r"body.parts\[0\].wide: shape 'box' has no entry"),
    ],
)
def test_what_makes_no_sense_is_named(entries, message):
    with pytest.raises(ValueError, match=message):
        read(body, entries, "body")


def test_a_name_alone_stands_for_defaults_in_lists_too():
    assert read(body, {"kind": "ball", "parts": "box"}, "body").parts == (Box(1.0),)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="the shape 'box' is there already"):

        @shape("box")
        def box(v: float) -> float:
            return v


def test_a_file_may_be_imported_anew():
    for height in (1.0, 2.0):

        @shape("again")
        def again(v: float, *, height: float = height) -> float:
            return height * v

    assert shape.make("again")(1.0) == 2.0


def test_merging_keeps_what_the_new_kind_has_too():
    wide = Kind("wide")

    @wide("a")
    @dataclass(frozen=True)
    class A:
        lr: float = 1.0
        own: int = 1

    @wide("b")
    @dataclass(frozen=True)
    class B:
        lr: float = 1.0
        other: int = 1

    base = {"kind": "a", "lr": 5.0, "own": 7}
    assert merge(wide, base, {"kind": "b"}) == {"kind": "b", "lr": 5.0}
    assert merge(wide, base, "b") == {"kind": "b", "lr": 5.0}
    assert merge(wide, base, {"own": 8}) == {"kind": "a", "lr": 5.0, "own": 8}
    assert merge(wide, base, None) is None
    assert merge(wide, None, {"kind": "a"}) == {"kind": "a"}


def test_options_are_described_by_their_owner():
    found = {option.name: option for option in options(body["ball"])}
    assert list(found) == ["outline", "parts", "kind_of", "count", "sizes"]
    assert (found["kind_of"].hint, found["kind_of"].help, found["kind_of"].default) == (
        "hard, soft",
        "a choice.",
        "hard",
    )
    assert found["outline"].hint == "a shape"
    assert found["parts"].hint == "list of shapes"
    assert hint_text(int | None) == "int or null"


def test_what_has_no_name_cannot_be_written_down():
    with pytest.raises(ValueError, match="object has no name: register it"):
        kind_and_name(object())


def test_suggestions():
    assert suggestion("widht", ["width", "depth"]) == " (did you mean width?)"
    assert suggestion("zzz", ["width"]) == ""


def test_every_built_in_component_has_help_for_every_option():
    import shortcut_snn.recipes  # noqa: F401

    torch_own = {"optimizer", "logger"}
    for name, kind in vars(components).items():
        if not isinstance(kind, Kind) or name in torch_own:
            continue
        for each in kind:
            # Not those of examples in docstrings.
            made = getattr(kind[each], "factory", kind[each])
            if not hasattr(sys.modules.get(made.__module__), made.__name__) or "shortcut_snn" not in made.__module__:
                continue
            for option in options(kind[each]):
                assert option.help, f"{kind.name} {each}: nothing is said of {option.name}"


class Bodily(TypedDict, total=False):
    mass: float
    colour: Literal["red", "blue"]


class Marble:
    """A marble.

    Args:
        colour: how it looks.
    """

    def __init__(
        self, radius: float, *, mass: float = 1.0, colour: Literal["red", "blue"] = "red", secret: int = 0
    ) -> None:
        self.all = radius, mass, colour, secret


def test_keywords_that_a_function_hands_on_are_options_as_the_class_has_them() -> None:
    @body("marble")
    def marble(size: float = 0.5, **options: Unpack[Bodily]) -> Marble:
        return Marble(size, **options)

    (size, colour) = options(body["marble"])
    assert (size.name, size.default) == ("size", 0.5)
    assert (colour.name, colour.default, colour.help, colour.hint) == ("colour", "red", "how it looks.", "red, blue")
    made = read(body, {"kind": "marble", "colour": "blue"}, "body")
    # Mass is given in this kind; what the function does not take is no option of it.
    assert made.build(mass=2.0).all == (0.5, 2.0, "blue", 0)
    with pytest.raises(ValueError, match="'marble' has no entry 'secret'; it has: size, colour"):
        read(body, {"kind": "marble", "secret": 1}, "body")


def test_what_no_recipe_can_hold_is_no_option() -> None:
    """Classes and functions are what PyTorch people write there."""
    kind = Kind("unheld", given=("inputs",))

    @kind("made")
    def make(
        inputs: int,
        act: object = torch.relu,
        layer: type = torch.nn.Linear,
        dtype: object = torch.float,
        *,
        width: int = 2,
    ) -> object:
        return act(layer(inputs, width, dtype=dtype)(torch.ones(inputs)))

    assert write(kind.make("made")) == {"kind": "made", "width": 2}
    assert read(kind, {"kind": "made", "width": 3}, "it").build(inputs=4).shape == (3,)
    with pytest.raises(ValueError, match="'made' has no entry 'layer'"):
        read(kind, {"kind": "made", "layer": "Linear"}, "it")

    @dataclass(frozen=True)
    class Fields:
        layer: type = torch.nn.Linear

    with pytest.raises(ValueError, match=r"option 'layer' is <class '.*Linear'>, which no recipe can hold: take None"):
        kind("fields")(Fields)
