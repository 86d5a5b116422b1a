"""Spiking networks whose neurons are of no library: as papers' repositories have them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .entry import CLASSES, MEAN, STEPS_OF_SAMPLES, clips, entry, frames, images, mean, sequence, steps_of


class Fire(torch.autograd.Function):
    """A step, with a rectangle as its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() < 1)


fire: Callable[[Tensor], Tensor] = Fire.apply


class Cell(nn.Module):
    """One time step a call; the potential stays in the module, and nobody resets it."""

    def __init__(self, threshold: float = 0.3) -> None:
        super().__init__()
        self.threshold, self.mem = threshold, None

    def forward(self, x: Tensor) -> Tensor:
        self.mem = x if self.mem is None else 0.5 * self.mem + x
        spike = fire(self.mem - self.threshold)
        self.mem = self.mem * (1 - spike)
        return spike


class Multi(nn.Module):
    """A whole sequence a call, along the first axis or the second, from rest."""

    def __init__(self, axis: int = 0, keeps: bool = False) -> None:
        super().__init__()
        self.axis, self.keeps, self.mem = axis, keeps, 0.0

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = self.mem if self.keeps else 0.0, []
        for step in x.unbind(self.axis):
            mem = 0.5 * mem + step
            spikes.append(fire(mem - 0.3))
            mem = mem * (1 - spikes[-1])
        if self.keeps:
            self.mem = mem
        return torch.stack(spikes, self.axis)


class Folded(nn.Module):
    """A layer applied to all time steps, which are folded into the batch for it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))


def folded(inputs: int, outputs: int, axis: int) -> nn.Sequential:
    return nn.Sequential(Folded(convolution(inputs, outputs)), Multi(axis))


class BatchFirst(nn.Module):
    """``[N, T, C, H, W]`` everywhere, and logits ``[N, T, classes]``."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(*(folded(i, o, 1) for i, o in ((channels, 4), (4, 6), (6, 8), (8, 9))))
        self.classifier = Folded(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, CLASSES)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


@entry(clips(), read=mean(1), widths={4, 6, 8}, given={"labels": torch.arange(3)}, **MEAN)
def batch_first() -> nn.Module:
    return BatchFirst()


@entry(clips(4, 4), read=mean(1), widths={4, 6, 8}, **STEPS_OF_SAMPLES)
def batch_first_as_many_samples_as_steps() -> nn.Module:
    return BatchFirst()


@entry(images(), read=mean(1), widths={4, 6, 8}, **STEPS_OF_SAMPLES)
class InPlace(nn.Module):
    """Shows an image for four steps, and changes the tensor that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.body = BatchFirst(3)

    def forward(self, x: Tensor) -> Tensor:
        x.unsqueeze_(1)
        return self.body(x.repeat(1, 4, 1, 1, 1))


class TimeFirst(nn.Module):
    """``[T, N, C, H, W]``, a static image for four steps behind its stem."""

    def __init__(self, static: bool = False, average: bool = True) -> None:
        super().__init__()
        self.static, self.average = static, average
        self.stem = convolution(3 if static else 2, 4)
        self.fire = Multi(0, keeps=True)
        self.block1, self.block2, self.block3 = folded(4, 4, 0), folded(4, 6, 0), folded(6, 8, 0)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).expand(4, -1, -1, -1, -1) if self.static else Folded(self.stem)(x)
        x = self.block3(self.block2(self.block1(self.fire(x)))).mean((3, 4))
        return self.head(x.mean(0) if self.average else x)


def rest(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, Cell | Multi):
            module.mem = None if isinstance(module, Cell) else 0.0


KEEPS: dict[str, Any] = {
    "asks": "(?s)keeps .*state.*loop='network'.*reset=",
    "cure": {"loop": "network", "reset": rest},
}


@entry(images(4), widths={4, 6}, **KEEPS)
def static_stem() -> nn.Module:
    return TimeFirst(static=True)


@entry(frames(), batch=1, widths={4, 6}, **KEEPS)
def time_first() -> nn.Module:
    return TimeFirst()


KEEPS_STEPS: dict[str, Any] = {**KEEPS, "cure": {**KEEPS["cure"], "readout": "mean"}}


@entry(frames(4, 4), batch=1, widths={4, 6}, read=mean(0), **KEEPS_STEPS)
def time_first_as_many_samples_as_steps() -> nn.Module:
    return TimeFirst(average=False)


class InTheBatch(nn.Module):
    """All layers take ``[T * N, ...]`` or ``[N * T, ...]``; neurons unfold it."""

    class Neuron(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.first, self.cell = first, Multi(0 if first else 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x.unflatten(0, (4, -1) if self.first else (-1, 4))).flatten(0, 1)

    def __init__(self, first: bool, average: bool) -> None:
        super().__init__()
        self.first, self.average = first, average
        parts = [[convolution(i, o), self.Neuron(first)] for i, o in ((3, 4), (4, 6), (6, 8), (8, 9))]
        self.body = nn.Sequential(*(part for both in parts for part in both))
        self.head = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat(4, 1, 1, 1) if self.first else x.repeat_interleave(4, 0)
        x = self.head(self.body(x).mean((2, 3)))
        return x.unflatten(0, (4, -1) if self.first else (-1, 4)).mean(0 if self.first else 1) if self.average else x


@entry(images(), widths={4, 6, 8})
def steps_and_samples_in_one_axis() -> nn.Module:
    return InTheBatch(True, True)


@entry(images(), widths={4, 6, 8}, read=lambda net, x: net(x).unflatten(0, (4, -1)).mean(0), **MEAN)
def steps_and_samples_in_one_axis_to_the_end() -> nn.Module:
    return InTheBatch(True, False)


@entry(images(10), widths={4, 6, 8}, read=lambda net, x: net(x).unflatten(0, (-1, 4)).mean(1), **MEAN)
def samples_and_steps_in_one_axis() -> nn.Module:
    return InTheBatch(False, False)


def stepwise(cell: Callable[[], nn.Module], flat: bool = False) -> nn.Sequential:
    if flat:
        return nn.Sequential(nn.Linear(6, 8), cell(), nn.Linear(8, 9), cell(), nn.Linear(9, CLASSES))
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3), cell(), nn.Conv2d(4, 6, 3), cell(), nn.Conv2d(6, 8, 3), cell()),
        *(nn.Flatten(), nn.Linear(32, CLASSES)),
    )


TAKES_STEPS, INPUT = (
    "(?s)but takes its time steps: pass loop='input'",
    {"loop": "input", "reset": rest, "readout": "mean"},
)


@entry(frames(), batch=1, asks="(?s)pass loop='input'.*pass reset=.*'mean'", cure=INPUT, widths={4, 6}, read=steps_of())
def steps_in_the_users_loop() -> nn.Module:
    return stepwise(Cell)


@entry(clips(), widths={4, 6}, read=steps_of(1), asks=TAKES_STEPS, cure={"batch_axis": 0, **INPUT})
def steps_of_clips() -> nn.Module:
    return stepwise(Cell)


@entry(
    sequence(), batch=1, widths={8}, asks="pass loop='input' to step through a sequence", cure=INPUT, read=steps_of()
)
def steps_of_anything() -> nn.Module:
    return stepwise(Cell, flat=True)


@entry(
    images(3, 2),
    widths={4, 6},
    asks="loop=4, say, to show a static batch",
    cure={"loop": 3, "reset": rest, "readout": "mean"},
    read=steps_of(steps=3),
)
def steps_of_an_image() -> nn.Module:
    return stepwise(Cell)


class Used(nn.Sequential):
    """A network that somebody has run before."""

    def __init__(self, cell: type[Cell]) -> None:
        super().__init__(*stepwise(cell))
        with torch.no_grad():
            self(torch.rand(2, 2, 8, 8))


def rested(network: nn.Module, x: Tensor) -> Tensor:
    rest(network)
    return steps_of()(network, x)


@entry(
    frames(),
    batch=1,
    read=rested,
    given={"loop": "input"},
    asks=r"(?s)reset=\.\.\. or a new network",
    cure={"reset": rest, "readout": "mean"},
)
def used_before() -> nn.Module:
    return Used(Cell)


class Loop(nn.Module):
    """Its own loop over time, with states that it hands on; spikes and potentials of every step at the end."""

    def __init__(self, gives: str = "pair") -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3, self.gives = nn.Linear(6, 8), nn.Linear(8, 9), nn.Linear(9, CLASSES), gives
        self.spike1, self.spike2, self.spike3 = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, num_steps: int | None = None) -> Any:
        mem1 = mem2 = mem3 = torch.zeros(1)
        hidden, spikes, potentials = [], [], []
        for step in x if num_steps is None else [x] * num_steps:
            mem1 = 0.5 * mem1 + self.fc1(step)
            spike1 = self.spike1(fire(mem1 - 0.1))
            mem2 = 0.5 * (mem2 + self.fc2(spike1))
            spike2 = self.spike2(fire(mem2 - 0.1))
            mem3 = 0.9 * mem3 + self.fc3(spike2)
            hidden.append(spike2)
            spikes.append(self.spike3(fire(mem3 - 0.1)))
            potentials.append(mem3)
        last = torch.stack(potentials)
        return {
            "pair": (torch.stack(spikes), last),
            "states": (last, {"mem1": mem1, "mem2": mem2}),
            "rates": (last.mean(0), [torch.stack(hidden).mean(), torch.stack(spikes).mean()]),
            "last": mem3,
        }[self.gives]


@entry(sequence(), batch=1, widths={8, 9}, read=mean(0, 0), **MEAN)
def states_beside() -> nn.Module:
    return Loop("states")


@entry(lambda: (torch.rand(3, 6), 4), widths={8, 9}, read=lambda net, x: net(*x))
def number_of_steps_as_an_input() -> nn.Module:
    return Loop("last")


@entry(images(), widths={4, 6, 8})
class OneNeuronForAll(nn.Module):
    """All layers share a neuron module, which keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            Folded(convolution(i, o)) for i, o in ((3, 4), (4, 6), (6, 8), (8, 9))
        )
        self.spike, self.fc = Multi(0), nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(4, -1, -1, -1, -1)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = self.spike(layer(x))
        return self.fc(x.mean((0, 3, 4)))


@entry(images(), asks=r"in training.*extract=", cure={"taps": ["conv1"], "extract": lambda y: y[:3]}, widths={4})
class RatesBehindSpikes(nn.Module):
    """In training layers give spikes, and behind them, as more samples, their traces."""

    class Pair(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.layer = convolution(inputs, outputs)

        def forward(self, x: Tensor) -> Tensor:
            spike = fire(self.layer(x) - 0.1)
            return torch.cat([spike, spike.detach() * 0.5]) if self.training and len(spike) == 3 else spike

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = self.Pair(3, 4), self.Pair(4, 6), self.Pair(6, 8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv3(self.conv2(self.conv1(x))).mean((2, 3))[: len(x)])


@entry(images(), read=mean(0), widths={4, 6, 8}, **MEAN)
class Noisy(nn.Module):
    """A static image as random spikes, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(folded(3, 4, 0), folded(4, 6, 0), folded(6, 8, 0), folded(8, 9, 0))
        self.fc = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = (torch.rand(4, *x.shape) < x).to(x.dtype)
        return self.fc(self.body(x).mean((3, 4)))


LISTED: dict[str, Any] = {
    "asks": "any of these may be the logits.*torch.stack",
    "cure": {"readout": lambda output: torch.stack(output).mean(0)},
}


@entry(sequence(), batch=1, widths={8, 9}, read=lambda net, x: torch.stack(net(x)).mean(0), **LISTED)
class ListOfSteps(nn.Module):
    """The logits of every step, in a list: none of a step before them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Loop("pair")

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.body(x)[1])
