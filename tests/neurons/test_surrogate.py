"""Surrogates: the shape, symmetry, rescaling and parameters of each."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shortcut_snn import components
from shortcut_snn.components.entries import read, write
from shortcut_snn.neurons import ATan, NormalisedTanh, Rectangle, Resizable, Sigmoid, Surrogate, Tanh, Triangle

ALL = [Rectangle(), Triangle(), Tanh(), ATan(), Sigmoid(), NormalisedTanh()]


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
    torch.testing.assert_close(surrogate(v), surrogate(-v), rtol=1e-12, atol=1e-12)
    assert surrogate(v).max() <= surrogate(torch.zeros(1, dtype=torch.float64)) * (1 + 1e-12)


@pytest.mark.parametrize("surrogate", ALL, ids=str)
def test_shape_and_dtype_are_those_of_the_input(surrogate: Surrogate) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        slope = surrogate(torch.linspace(-2, 2, 12, dtype=dtype).view(3, 4))
        assert slope.shape == (3, 4)
        assert slope.dtype == dtype


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_parameter_that_is_not_positive_is_refused(value: float) -> None:
    for surrogate in ALL:
        for name in vars(surrogate):
            with pytest.raises(ValueError, match=f"{name} .*{value}"):
                type(surrogate)(**{name: value})


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
    registered = {read(components.surrogate, name, "surrogate") for name in components.surrogate}
    assert set(ALL) <= registered
    entries = {"kind": "lif", "surrogate": {"kind": "triangle", "width": 2}}
    neuron = read(components.neuron, entries, "neuron")
    assert neuron.build().surrogate == Triangle(width=2.0)
    assert read(components.neuron, write(neuron), "neuron") == neuron
