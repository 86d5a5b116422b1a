"""Small networks with the traits that the wrapper has to cope with."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import Shortcut, components, nets

from .wrapped import wrapped


class Staged(nn.Module):
    """Three stages over ``[T, N, C]`` and a readout: differentiable everywhere with Tanh or Identity."""

    def __init__(self, activation: type[nn.Module] = nn.Tanh, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(width, width + 1), activation())
        self.layer2 = nn.Sequential(nn.Linear(width + 1, width + 2), activation())
        self.layer3 = nn.Sequential(nn.Linear(width + 2, width + 3), activation())
        self.head = nn.Linear(width + 3, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer3(self.layer2(self.layer1(x))).mean(0))


class Noisy(nn.Module):
    """Draws random numbers and updates buffers in whatever mode it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.rand(())
        return self.head(self.layer2(self.layer1(x)).mean((-2, -1)))


class Recurrent(nn.Module):
    """Its stages give more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.GRU(4, 5)
        self.named = Named(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.named(self.pair(x)[0])["spikes"].mean(0))


class Named(nn.Linear):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"spikes": super().forward(x)}


class Fickle(nn.Module):
    """Skips its second stage, or fails behind it, when told to; stages of ``[N, C]``, which pooling passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, skip: bool = False, fail: bool = False) -> Tensor:
        x = self.layer1(x)
        x = x if skip else self.layer2(x)
        if fail:
            raise ArithmeticError("the forward pass failed")
        return self.head(x)


def smooth(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A criterion: cross-entropy with label smoothing."""
    return functools.partial(F.cross_entropy, label_smoothing=label_smoothing)


def small(name: str = "resnet18", **options: Any) -> nets.SpikingResNet:
    """One of our networks, small enough to train in a test."""
    return components.network.find(name).factory(**{"num_classes": 3, "time_steps": 2, "width": 4} | options)


def twins(network: nn.Module, **options: Any) -> tuple[Shortcut, nn.Module]:
    """A wrapped network and one that never was."""
    twin = copy.deepcopy(network)
    return wrapped(network, **options), twin


def hooks(network: nn.Module) -> int:
    """How many hooks of any kind there are on a network's modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)
