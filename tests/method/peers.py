"""Small convolutional networks as users of each library write them, each for batches ``[T, N, 1, 8, 8]``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import norse.torch as norse
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

STEPS, BATCH, CLASSES = 4, 2, 3


def frames(batch: int = BATCH) -> Tensor:
    return 3 * torch.rand(STEPS, batch, 1, 8, 8)


LABELS = torch.tensor([0, 2])


def spikingjelly(mode: str) -> nn.Module:
    def lif() -> nn.Module:
        return neuron.LIFNode(surrogate_function=surrogate.ATan())

    network = nn.Sequential()
    network.stage1 = nn.Sequential(layer.Conv2d(1, 4, 3), layer.BatchNorm2d(4), lif())
    network.stage2 = nn.Sequential(layer.Conv2d(4, 5, 3), lif())
    network.head = nn.Sequential(layer.Flatten(), layer.Linear(80, CLASSES))
    with torch.no_grad():
        # So that the second stage spikes too.
        network.stage2[0].weight *= 4
    functional.set_step_mode(network, mode)
    return network


def integrating() -> tuple[nn.Module, Tensor]:
    """A network that keeps a membrane potential, and a batch that leaves one behind: it spikes once, then twice."""
    return nn.Sequential(nn.Identity(), neuron.IFNode(step_mode="m")), torch.full((3, 2, 4), 0.6)


def leaky(**options: bool) -> snntorch.Leaky:
    return snntorch.Leaky(beta=0.5, init_hidden=True, **options)


def snntorch_step() -> nn.Module:
    """One time step a call, hidden states, ``(spikes, membrane potential)`` at the end: its tutorial 6."""
    network = nn.Sequential()
    network.stage1 = nn.Sequential(nn.Conv2d(1, 4, 3), leaky())
    network.stage2 = nn.Sequential(nn.Conv2d(4, 5, 3), leaky())
    network.head = nn.Sequential(nn.Flatten(), nn.Linear(80, CLASSES), leaky(output=True))
    return network


class SnntorchLoop(nn.Module):
    """A loop over time and states handed on by the user, tuples from every neuron: its tutorial 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 4, 3), snntorch.Leaky(beta=0.5)
        self.conv2, self.lif2 = nn.Conv2d(4, 5, 3), snntorch.Leaky(beta=0.5)
        self.fc, self.lif3 = nn.Linear(80, CLASSES), snntorch.Leaky(beta=0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.reset_mem(), self.lif2.reset_mem(), self.lif3.reset_mem()
        spikes, potentials = [], []
        for step in x:
            spike, mem1 = self.lif1(self.conv1(step), mem1)
            spike, mem2 = self.lif2(self.conv2(spike), mem2)
            spike, mem3 = self.lif3(self.fc(spike.flatten(1)), mem3)
            spikes.append(spike)
            potentials.append(mem3)
        return torch.stack(spikes), torch.stack(potentials)


class SnntorchHidden(nn.Module):
    """A loop over time in the network, states hidden in the neurons and never reset by it."""

    def __init__(self) -> None:
        super().__init__()
        self.step = snntorch_step()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(step)[1] for step in x])


def norse_sequence() -> nn.Module:
    """Every layer takes the whole sequence; ``(voltages, state)`` at the end."""
    lift = norse.Lift
    return norse.SequentialState(
        *(lift(nn.Conv2d(1, 4, 3)), norse.LIF(), lift(nn.Conv2d(4, 5, 3)), norse.LIF()),
        *(nn.Flatten(2), lift(nn.Linear(80, CLASSES)), norse.LI()),
    )


def norse_step() -> nn.Module:
    """Cells of one time step, which are given their state and return the next."""
    return norse.SequentialState(
        *(nn.Conv2d(1, 4, 3), norse.LIFCell(), nn.Conv2d(4, 5, 3), norse.LIFCell()),
        *(nn.Flatten(), nn.Linear(80, CLASSES), norse.LICell()),
    )


class Plain(nn.Module):
    """No neurons of any library: time is an axis as any other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv3d(1, 4, (1, 3, 3)), nn.Tanh())
        self.layer2 = nn.Sequential(nn.Conv3d(4, 5, (1, 3, 3)), nn.Tanh())
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layer2(self.layer1(x.permute(1, 2, 0, 3, 4)))
        return self.head(features.mean((2, 3, 4)))


def rates(output: Any) -> Tensor:
    """Return the mean over time of the spikes in snnTorch's (spikes, potentials)."""
    return output[0].mean(0)


RATES: dict[str, Any] = {"readout": rates}


@dataclass(frozen=True)
class Peer:
    """A network and what ``attach`` is to find out about it."""

    make: Callable[[], nn.Module]
    taps: str | list[str] = "stages"
    axis: int | None = None
    looped: bool = False
    stateful: bool = True
    potentials: bool = False
    pair: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """What has to be said: of steps ``[T, N, ...]``, that they are not ``[N, T, ...]``; how potentials are read."""
        axis = {"batch_axis": 1} if self.looped else {}
        if self.pair:
            return axis | RATES
        return axis | {"readout": "mean"} if self.potentials else axis


PEERS = {
    "spikingjelly m": Peer(lambda: spikingjelly("m"), axis=0),
    "spikingjelly s": Peer(lambda: spikingjelly("s"), looped=True),
    "snntorch step": Peer(snntorch_step, looped=True, pair=True),
    "snntorch loop": Peer(SnntorchLoop, ["lif1"], pair=True),
    "snntorch hidden": Peer(SnntorchHidden, ["step.stage1"], potentials=True),
    "norse sequence": Peer(norse_sequence, ["1"], axis=0, stateful=False, potentials=True),
    "norse step": Peer(norse_step, ["1"], looped=True, stateful=False, potentials=True),
}
