"""Networks of SpikingJelly, snnTorch and Norse, as their zoos, tutorials and tasks have them."""

from typing import Any

import norse.torch as norse
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import Tensor, nn

from .entry import CLASSES, MEAN, TIME_FIRST, WHICH, entry, frames, images, mean, one_of_several, sequence, steps_of


def lif() -> nn.Module:
    return neuron.LIFNode(tau=1.5, surrogate_function=surrogate.ATan())


def layers(norm: bool = True) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in ((2, 4), (4, 6), (6, 7), (7, 8)):
        parts += [layer.Conv2d(inputs, outputs, 3, padding=1), layer.BatchNorm2d(outputs), lif()]
    return nn.Sequential(*parts, layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(8, CLASSES))


@entry(frames(), batch=1, widths={4, 6, 7}, read=mean(0))
def spikingjelly_sequence() -> nn.Module:
    network = layers()
    functional.set_step_mode(network, "m")
    return network


@entry(frames(), batch=1, asks=WHICH, cure=TIME_FIRST, widths={4, 6, 7}, read=steps_of())
def spikingjelly_steps() -> nn.Module:
    return layers()


@entry(frames(), batch=1, widths={4, 6, 7}, read=mean(0))
def spikingjelly_container() -> nn.Module:
    """Steps that a container goes through."""
    return layer.MultiStepContainer(*layers())


@entry(images(2, 3, 16), widths={8, 16}, read=mean(0))
def spikformer() -> nn.Module:
    options = {"img_size_h": 16, "img_size_w": 16, "patch_size": 4, "embed_dims": 16, "num_heads": 2, "depths": 3}
    return Spikformer(T=2, num_classes=CLASSES, **options)


@entry(images(2, 3, 32), widths={16}, first=False)
def spike_driven_transformer() -> nn.Module:
    return SpikeDrivenTransformer(T=2, num_classes=CLASSES, embed_dims=16, num_heads=2, depths=3)


def leaky(**options: Any) -> nn.Module:
    return snntorch.Leaky(beta=0.8, threshold=0.3, **options)


class Tutorial(nn.Module):
    """A loop over time that is the network's own, with states handed on: snnTorch's tutorial 5."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(6, 8), leaky(), nn.Linear(8, 9), leaky()
        self.fc3, self.lif3, self.axis = nn.Linear(9, CLASSES), leaky(), axis

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes, potentials = [], []
        for _ in range(4):
            spike, mem1 = self.lif1(self.fc1(x), mem1)
            spike, mem2 = self.lif2(self.fc2(spike), mem2)
            spike, mem3 = self.lif3(self.fc3(spike), mem3)
            spikes.append(spike)
            potentials.append(mem3)
        return torch.stack(spikes, self.axis), torch.stack(potentials, self.axis)


@entry(lambda: 3 * torch.rand(3, 6), widths={8, 9}, read=mean(0, 0), **one_of_several(lambda out: out[0].mean(0)))
def snntorch_tutorial() -> nn.Module:
    return Tutorial()


@entry(
    frames(),
    batch=1,
    given=TIME_FIRST,
    widths={4, 6, 7},
    read=steps_of(0, 0),
    **one_of_several(lambda output: output[0].mean(0)),
)
def snntorch_hidden_states() -> nn.Module:
    hidden = {"init_hidden": True}
    return nn.Sequential(
        *(
            nn.Conv2d(2, 4, 3),
            leaky(**hidden),
            nn.Conv2d(4, 6, 3),
            leaky(**hidden),
            nn.Conv2d(6, 7, 3),
            leaky(**hidden),
        ),
        *(nn.Flatten(), nn.Linear(28, CLASSES), leaky(**hidden, output=True)),
    )


@entry(sequence(), batch=1, widths={8, 9}, read=mean(0, 0), **MEAN)
def norse_sequence() -> nn.Module:
    return norse.SequentialState(
        *(nn.Linear(6, 8), norse.LIF(), nn.Linear(8, 9), norse.LIF(), nn.Linear(9, CLASSES), norse.LI())
    )


class Both(nn.Module):
    """Neurons of two libraries, each with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.one, self.fc2, self.two = nn.Linear(6, 8), lif(), nn.Linear(8, 9), leaky(init_hidden=True)
        self.fc3, self.three, self.head = nn.Linear(9, 9), lif(), nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        steps = [self.head(self.three(self.fc3(self.two(self.fc2(self.one(self.fc1(step))))))) for step in x]
        return torch.stack(steps).mean(0)


@entry(sequence(), batch=1, widths={8, 9})
def two_libraries() -> nn.Module:
    return Both()
