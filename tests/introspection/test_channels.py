"""Layers that inherit from PyTorch's and give their channels along another axis."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import attach


class TimeLast(nn.Linear):
    """Takes ``[N, C, T]``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.transpose(1, 2), self.weight, self.bias).transpose(1, 2)


class Tokens(nn.Linear):
    """Takes ``[N, L, C]``, as its base class does."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.tanh(), self.bias)


class ChannelsFirst(nn.LayerNorm):
    """Takes ``[N, C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias).movedim(-1, 1)


class Mean(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2) if self.axis == 2 else x.mean(1)


NETWORKS = {
    "time last": ([TimeLast(6, 10), nn.ReLU(), TimeLast(10, 8), nn.ReLU(), Mean(2), nn.Linear(8, 4)], (5, 6, 7)),
    "tokens": ([Tokens(6, 10), nn.ReLU(), Tokens(10, 8), nn.ReLU(), Mean(1), nn.Linear(8, 4)], (5, 7, 6)),
    "channels first": (
        [nn.Conv2d(6, 10, 1), ChannelsFirst(10), nn.Conv2d(10, 8, 1), ChannelsFirst(8), Mean(2), nn.Linear(8, 4)],
        (5, 6, 7, 7),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_channels_of_a_subclass_are_told_by_its_shapes(name: str, labelled: bool) -> None:
    layers, shape = NETWORKS[name]
    torch.manual_seed(0)
    labels = torch.arange(5) % 4 if labelled else None
    model = attach(nn.Sequential(*layers), ["1", "3"], example=torch.rand(shape), labels=labels, log=len)
    assert [tap.channels for tap in model.layout.taps] == [10, 8]


@pytest.mark.parametrize(("kind", "axis"), [(TimeLast, 2), (Tokens, 1)])
def test_as_many_time_steps_as_channels_are_never_taken_for_them(kind: type[nn.Linear], axis: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(kind(6, 8), nn.ReLU(), kind(8, 8), nn.ReLU(), Mean(axis), nn.Linear(8, 4))
    example = torch.rand((5, 6, 8) if axis == 2 else (5, 8, 6))
    model = attach(network, ["1", "3"], example=example, log=len)
    assert {tap.channel_axis for tap in model.layout.taps} == {3 - axis}


class Mix(nn.Module):
    """Mixes the channels of ``[N, C, T, F]`` by a parameter of its own and adds a time step."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(torch.einsum("nctf,cd->ndtf", x, self.matrix), (0, 0, 1, 0)).relu()


class TimeThenChannels(nn.Module):
    """``[N, C, T, F]`` to ``[N, T, C * F]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Mix(3, 6), Mix(6, 6)
        self.third, self.fourth, self.head = TimeThenChannels(), nn.Linear(48, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fourth(self.third(self.second(self.first(x)))).relu().mean(1))


def test_channel_axes_that_remain_open_are_asked_for_and_checked() -> None:
    names, example, options = ["first", "second", "third"], torch.rand(5, 3, 9, 8), {"log": len}
    with pytest.raises(ValueError, match=r"'first' of shape .*'third' of shape \(5, 11, 48\).*channel_axis=\["):
        attach(Layers(), names, example=example, **options)
    with pytest.raises(ValueError, match=r"'fourth' .*axis 2 holds channels, not axis 1: pass channel_axis as a list"):
        attach(Layers(), ["first", "fourth"], example=example, channel_axis=1, **options)
    for axes in ([1, 1, 2], [1, -3, -1]):
        taps = attach(Layers(), names, example=example, channel_axis=axes, **options).layout.taps
        assert [tap.channels for tap in taps] == [6, 6, 48]
    taps = attach(Layers(), ["first", "fourth"], example=example, channel_axis=[1, "auto"], **options).layout.taps
    assert [tap.channels for tap in taps] == [6, 10]


def test_a_tap_without_channels_is_told_so() -> None:
    network = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0), nn.Unflatten(0, (-1, 1)), nn.Linear(1, 8), nn.Linear(8, 4))
    with pytest.raises(ValueError, match=r"'1' gives shape \(5,\), which has no channels: tap another"):
        attach(network, ["1"], example=torch.rand(5, 6), log=len)
