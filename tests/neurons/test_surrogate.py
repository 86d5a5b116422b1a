"""Surrogates: shape, area and antiderivative of each."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shortcut_snn import components
from shortcut_snn.neurons import ATan, NormalisedTanh, Rectangle, Resizable, Sigmoid, Surrogate, Tanh, Triangle

sizes = st.floats(0.1, 10.0)
surrogates = st.one_of(
    sizes.map(Rectangle),
    st.builds(Triangle, sizes, sizes),
    sizes.map(Tanh),
    sizes.map(ATan),
    sizes.map(Sigmoid),
    sizes.map(NormalisedTanh),
)


def area(surrogate: Surrogate) -> float:
    """Integrate over the whole line: v = tan(angle) makes it finite and keeps the heavy tails."""
    count = 400_000
    angle = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count) - math.pi / 2
    return (surrogate(torch.tan(angle)) / torch.cos(angle).square()).sum().item() * math.pi / count


@pytest.mark.parametrize(
    ("surrogate", "expected"),
    [
        (Rectangle(4.0), 1.0),
        (Triangle(0.3, 2.5), 0.75),
        (Tanh(0.5), 1.0),
        (ATan(5.0), 1.0),
        (Sigmoid(1.0), 1.0),
        (NormalisedTanh(3.0), 1.0),
    ],
    ids=str,
)
def test_area(surrogate: Surrogate, expected: float) -> None:
    assert area(surrogate) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("surrogate", "primitive"),
    [
        (Tanh(1.5), lambda v: 1.5 * torch.tanh(v)),
        (ATan(3.0), lambda v: torch.atan(math.pi / 2 * 3.0 * v) / math.pi),
        (Sigmoid(2.0), lambda v: torch.sigmoid(2.0 * v)),
        (Triangle(0.7, 1.3), lambda v: 0.7 * torch.where(v.abs() < 1.3, v - v * v.abs() / 2.6, 0.65 * v.sign())),
        (Rectangle(3.0), lambda v: v.clamp(-1.5, 1.5) / 3.0),
        (NormalisedTanh(2.0), lambda v: torch.tanh(1.5 * v.clamp(-1.0, 1.0)) / (2 * math.tanh(1.5))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_surrogate_is_the_derivative_of_a_smooth_step(
    surrogate: Surrogate, primitive: Callable[[Tensor], Tensor]
) -> None:
    v = torch.linspace(-4, 4, 802, dtype=torch.float64)
    eps = 1e-6
    numerical = (primitive(v + eps) - primitive(v - eps)) / (2 * eps)
    torch.testing.assert_close(surrogate(v), numerical, rtol=1e-6, atol=1e-8)


@given(surrogate=surrogates, seed=st.integers(0, 1000))
def test_surrogate_is_symmetric_with_its_peak_at_the_threshold(surrogate: Surrogate, seed: int) -> None:
    v = 4 * torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    slope = surrogate(v)
    torch.testing.assert_close(slope, surrogate(-v), rtol=1e-12, atol=1e-12)
    peak = surrogate(torch.zeros(1, dtype=torch.float64))
    assert (slope >= 0).all()
    assert (slope <= peak * (1 + 1e-12)).all()
    assert peak > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("surrogate", [Rectangle(), Triangle(), Tanh(), ATan(), Sigmoid(), NormalisedTanh()], ids=str)
def test_shape_and_dtype_are_those_of_the_input(surrogate: Surrogate, dtype: torch.dtype) -> None:
    slope = surrogate(torch.linspace(-2, 2, 12, dtype=dtype).view(3, 4))
    assert slope.shape == (3, 4)
    assert slope.dtype == dtype


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Rectangle, "width"),
        (Triangle, "gamma"),
        (lambda value: Triangle(1.0, value), "width"),
        (Tanh, "scale"),
        (ATan, "alpha"),
        (Sigmoid, "alpha"),
        (NormalisedTanh, "width"),
    ],
)
def test_a_parameter_that_is_not_positive_is_refused(
    make: Callable[[float], Surrogate], name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        make(value)


@pytest.mark.parametrize(
    ("shape", "same"),
    [
        (Rectangle(), Rectangle(3.0)),
        (Triangle(), Triangle(1 / 3, 3.0)),
        (Tanh(), Tanh(1 / 3)),
        (ATan(), ATan(2 / 3)),
        (Sigmoid(), Sigmoid(4 / 3)),
        (NormalisedTanh(), NormalisedTanh(3.0)),
    ],
    ids=str,
)
def test_a_resized_surrogate_has_the_new_width(shape: Resizable, same: Surrogate) -> None:
    assert shape.resized(3.0) == same
    assert shape.resized(1.0) == shape


def test_recipes_name_every_surrogate() -> None:
    read = [components.read(components.surrogate, name, "surrogate") for name in components.surrogate]
    assert {Rectangle(), Triangle(), Tanh(), ATan(), Sigmoid(), NormalisedTanh()} <= set(read)
    entries = {"kind": "lif", "surrogate": {"kind": "triangle", "width": 2}}
    neuron = components.read(components.neuron, entries, "neuron")
    assert neuron.build().surrogate == Triangle(width=2.0)
    assert components.read(components.neuron, components.write(neuron), "neuron") == neuron
