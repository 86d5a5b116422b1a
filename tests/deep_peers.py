"""Deep networks without normalisation of each library, for real data, as its users write them."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import snntorch
import torch
from norse.torch.functional.lif import LIFParameters
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from shortcut_snn import TimeLoop

DEPTH, STEPS = 6, 4


def digits(first: int = 0) -> tuple[Tensor, Tensor]:
    """Frames ``[T, N, 64]``, the same at every step, and labels."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[first : first + 64]).float() / 4
    return x.expand(STEPS, *x.shape).contiguous(), torch.tensor(labels[first : first + 64])


def plain(make: Callable[[], nn.Module], container: Any = nn.Sequential) -> nn.Module:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for number in range(DEPTH):
        parts += [nn.Linear(64 if number == 0 else 48, 48), make()]
        nn.init.normal_(parts[-2].weight, std=3 / 48**0.5)
    return container(*parts, nn.Linear(48, 10))


def spikingjelly(mode: str, make: Callable[[], nn.Module] | None = None) -> nn.Module:
    shared = surrogate.ATan(alpha=4.0)
    network = plain(make or (lambda: neuron.LIFNode(surrogate_function=shared)))
    functional.set_step_mode(network, mode)
    return network


def leaky(**options: Any) -> nn.Module:
    return snntorch.Leaky(beta=0.5, init_hidden=True, **options)


class HandedOn(nn.Module):
    """States that the network hands on, by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain(lambda: snntorch.Leaky(beta=0.5))

    def forward(self, x: Tensor) -> Tensor:
        steps, states = [], [None] * len(self.layers)
        for step in x:
            for number, part in enumerate(self.layers):
                if isinstance(part, snntorch.Leaky):
                    states[number] = part.init_leaky() if states[number] is None else states[number]
                    step, states[number] = part(step, mem=states[number])
                else:
                    step = part(step)
            steps.append(step)
        return torch.stack(steps)


class Looped(nn.Module):
    """Calls a network of one time step."""

    def __init__(self, network: nn.Module, carry: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network, self.loop = network, TimeLoop(carry=carry)

    def forward(self, x: Tensor) -> Tensor:
        return self.loop(self.network, x)


def parameters(method: str = "triangle") -> LIFParameters:
    return LIFParameters(v_th=torch.tensor(0.1), method=method, alpha=torch.tensor(1.0))


class Sequence(nn.Module):
    """Norse's neurons over a whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain(lambda: norse.LIF(p=parameters()), norse.SequentialState)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[0]


DEEP: dict[str, Callable[[], nn.Module]] = {
    "spikingjelly m": lambda: spikingjelly("m"),
    "spikingjelly s": lambda: Looped(spikingjelly("s")),
    "snntorch hidden": lambda: Looped(plain(leaky)),
    "snntorch handed on": HandedOn,
    "norse sequence": Sequence,
    "norse cells": lambda: Looped(
        plain(lambda: norse.LIFCell(p=parameters()), norse.SequentialState), carry=("state",)
    ),
}
