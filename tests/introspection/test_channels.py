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
