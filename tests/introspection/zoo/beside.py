"""Networks with something beside what most have: other outputs, layers of their own, steps that only warm up."""

import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.nn import functional as F

from .entry import CLASSES, clips, entry, features, first_of, frames, sequence
from .spiking import Cell, Multi, convolution, fire


@entry(sequence(3, 6), widths={10, 12}, read=first_of(0))
class Rates(nn.Module):
    """``[N, T, features]`` in, logits out, and beside them how often the neurons fired, over the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(6, 10), nn.Linear(10, 12), nn.Linear(12, CLASSES)
        self.lif1, self.lif2 = Multi(1), Multi(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.lif1(self.fc1(x))
        second = self.lif2(self.fc2(first))
        return self.head(second).sum(1), torch.cat([first, second], 2).mean((0, 1))


class Matrix(nn.Module):
    """A layer and its neurons in one, with a parameter of its own as the matrix."""

    def __init__(self, inputs: int, outputs: int, spiking: bool = True) -> None:
        super().__init__()
        self.matrix, self.spiking = nn.Parameter(torch.randn(outputs, inputs)), spiking

    def forward(self, x: Tensor, potential: Tensor | float) -> tuple[Tensor, Tensor]:
        potential = 0.5 * potential + F.linear(x, self.matrix)
        if not self.spiking:
            return potential, potential
        spikes = fire(potential - 0.3)
        return spikes, potential * (1 - spikes)


@entry(sequence(), batch=1, widths={9})
class Matrices(nn.Module):
    """One spiking layer and one that integrates, stepped through by the network."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = Matrix(6, 9), Matrix(9, CLASSES, spiking=False)

    def forward(self, x: Tensor) -> Tensor:
        first = second = torch.zeros(())
        for step in x:
            spikes, first = self.cell(step, first)
            output, second = self.readout(spikes, second)
        return output


@entry(clips(), widths={4, 6, 8})
class WarmsUp(nn.Module):
    """The first two time steps are without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Sequential(convolution(i, o), Cell()) for i, o in ((2, 4), (4, 6), (6, 8), (8, 9)))
        )
        self.head = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.body:
            part[1].mem = None
        with torch.no_grad():
            for step in x[:, :2].unbind(1):
                self.body(step)
        return torch.stack([self.head(self.body(step).mean((2, 3))) for step in x[:, 2:].unbind(1)]).mean(0)


@entry(features(), asks="influence each other.*'centre'")
class Centred(nn.Module):
    """Which module mixes samples is said."""

    class Centre(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.centre, self.two = nn.Linear(6, 7), self.Centre(), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.centre(self.one(x).relu()))


class Sequences(nn.Module):
    """SpikingJelly's layers in a network for ``[T, N, ...]``, in the step mode that they are made in."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(layer.Conv2d(2, 4, 3), neuron.LIFNode(), layer.Conv2d(4, 6, 3), neuron.LIFNode())
        self.head = layer.Linear(6 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(2)).mean(0)


@entry(frames(), asks=r"call spikingjelly.*set_step_mode\(net, 'm'\)")
def step_mode_forgotten() -> nn.Module:
    return Sequences()


@entry(sequence(), asks=r"call spikingjelly.*set_step_mode\(net, 'm'\)")
class StepModeForgottenWithoutAnError(nn.Module):
    """Linear layers take sequences in any mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(layer.Linear(6, 7), neuron.LIFNode(), layer.Linear(7, CLASSES), neuron.LIFNode())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean(0)
