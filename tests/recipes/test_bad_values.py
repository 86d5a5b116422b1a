"""Invalid arguments of the library's functions raise an error of one line when the function is called."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from shortcut_snn import (
    TET,
    Constant,
    CosineDecay,
    FiringRatePenalty,
    LinearDecay,
    SelfDistillation,
    Shortcut,
    nets,
    wrap,
)
from shortcut_snn.method import Layout, Tap
from shortcut_snn.neurons import IF, LIF, PLIF, ATan, NormNeuron, Rectangle, Sigmoid, Tanh, Triangle, set_backend

NAN, INF = float("nan"), float("inf")
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def net() -> nets.SpikingResNet:
    return nets.spiking_resnet20(4, 2, width=2)


def shortcut(taps: Any = "stages", num_classes: Any = 4, **more: Any) -> Shortcut:
    network = net()
    return wrap(network, dataclasses.replace(network.layout(taps), num_classes=num_classes), log=len, **more)


def positional(call: Callable[..., Any], *values: Any) -> list[Call]:
    return [(call, (value,), {}) for value in values]


def keyword(call: Callable[..., Any], **choices: tuple[Any, ...]) -> list[Call]:
    return [(call, (), {name: value}) for name, values in choices.items() for value in values]


CALLS: list[Call] = []
for surrogate in (Rectangle, Triangle, Tanh, ATan, Sigmoid):
    CALLS += positional(surrogate, 0, -1, NAN, INF, "wide", None)
for branch_weight in (Constant, LinearDecay, CosineDecay):
    CALLS += positional(branch_weight, -1, NAN, INF, "much", None)
CALLS += [(LinearDecay(), at, {}) for at in ((-1, 10), (0, 0), (0, -5), (3, 0))]
CALLS += keyword(TET, weight=(-0.1, 1.5, NAN), target=(NAN, INF))
CALLS += keyword(FiringRatePenalty, weight=(-1, NAN), target=(-1, INF))
CALLS += keyword(SelfDistillation, share=(-0.1, 1.5, NAN), temperature=(0, -1, NAN, INF))
for neuron in (IF, LIF, PLIF):
    CALLS += keyword(neuron, threshold=(0, -1, NAN, INF, "x"), reset=("none", None), surrogate=("rectangle", 3))
CALLS += positional(LIF, -0.1, 1.1, NAN, INF, "x", None) + positional(PLIF, -0.1, 0, 1, 1.1, NAN, "x", None)
CALLS += positional(
    LIF(), torch.zeros(()), torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 3, dtype=torch.int64),
    torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.complex64), "spikes", [1.0],
)  # fmt: skip
CALLS += [(LIF().stream, (torch.zeros(2, 3, 4), torch.zeros(3, 5)), {})]
CALLS += [(NormNeuron, (None, LIF()), {}), (NormNeuron, (nn.BatchNorm2d(3), None), {})]
CALLS += positional(set_backend, "cuda9", None)
small = {"num_classes": 4, "time_steps": 2, "width": 2}
for build in (nets.spiking_resnet20, nets.spiking_vgg11):
    wrong: dict[str, tuple[Any, ...]] = {
        "num_classes": (0, -1, 2.5, "ten"),
        "time_steps": (0, -1, 1.5),
        "width": (0, -3, 1.5),
        "in_channels": (0, "3"),
        "norm": ("ln",),
        "readout": ("max",),
    }
    CALLS += [(build, (), small | {name: value}) for name, values in wrong.items() for value in values]
CALLS += [(nets.spiking_resnet20, (), small | {"stem": "huge"}), (nets.spiking_resnet20, (), small | {"block": "odd"})]
CALLS += [(nets.SpikingResNet, ([], 3, 2), {}), (nets.SpikingResNet, ([0], 3, 2), {})]
CALLS += positional(
    net(), torch.zeros(2, 3, 8), torch.zeros(2, 1, 8, 8), torch.zeros(3, 2, 3, 8, 8), torch.zeros(2, 3, 0, 0),
    torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 3, 8, 8, dtype=torch.int64),
    torch.zeros(2, 3, 8, 8, dtype=torch.float64), torch.zeros(1, 3, 8, 8, device="meta"), "image", None,
)  # fmt: skip
CALLS += keyword(
    shortcut,
    taps=("stage", "layer1", "", ["layr1"], ["layer1", "layer1"], [""], [3], 3, None, [None]),
    num_classes=(0, -1, 2.5, "x", None),
    method=("loss", "sew", "tet_"),
    example=("x",),
)
TAPPED = Layout(num_classes=3, taps=(Tap("0"),))
CALLS += [(Shortcut, (thing, Layout()), {}) for thing in (None, "net", Shortcut(nn.Linear(2, 2), Layout()))]
CALLS += [(wrap, (nn.Sequential(nn.Linear(2, 2)), TAPPED), {"log": len})]


def name(call: Call) -> str:
    function, args, kwargs = call
    values = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    title = getattr(function, "__name__", type(function).__name__)
    return f"{title}({', '.join(' '.join(value.split())[:40] for value in values)})"


@pytest.mark.parametrize("call", CALLS, ids=name)
def test_invalid_arguments_raise_one_line(call: Call) -> None:
    function, args, kwargs = call
    with pytest.raises((ValueError, TypeError)) as error:
        function(*args, **kwargs)
    message = str(error.value).strip()
    assert message
    assert "\n" not in message
    # Of taps and examples the message names what is in them.
    named = {key for key, value in kwargs.items() if value is not small.get(key, small)} - {"taps", "example", "log"}
    assert all(key in message for key in named)
    # A message of Python itself does not name the argument.
    assert "not supported between" not in message
    assert "must be real number" not in message
    assert not message.startswith(("empty()", "'"))
