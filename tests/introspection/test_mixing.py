"""Samples that influence one another inside neurons, which shows only where these fire."""

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from shortcut_snn import attach
from shortcut_snn.neurons import ATan, straight_through


class OwnNeuron(nn.Module):
    """A neuron that goes through the first axis of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for step in x:
            v = 0.5 * v + step
            spike = straight_through((v > 1).float(), v - 1, ATan())
            v = v * (1 - spike)
            spikes.append(spike)
        return torch.stack(spikes)


class Attention(nn.Module):
    """Its products are too small for the first neuron to fire, and the second is stepped over all samples."""

    def __init__(self, make: Any, order: str) -> None:
        super().__init__()
        self.query, self.key, self.project = (nn.Conv1d(6, 6, 1) for _ in range(3))
        self.attention, self.spiking = make(), make()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        merged = x.flatten(0, 1)
        product = (0.01 * self.query(merged) @ self.key(merged).transpose(1, 2) @ merged).unflatten(0, x.shape[:2])
        x = self.project(self.attention(product).flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.order == "merged":
            return self.spiking(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.spiking(x.transpose(0, 1)).transpose(0, 1) if self.order == "swapped" else self.spiking(x)


class Tokens(nn.Module):
    def __init__(self, make: Any, order: str) -> None:
        super().__init__()
        self.embed, self.spiking = nn.Conv1d(3, 6, 1), make()
        self.attend, self.head = Attention(make, order), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spiking(self.embed(x).expand(4, -1, -1, -1))
        return self.head((x + self.attend(x)).mean((0, 3)))


NEURONS = {"SpikingJelly": lambda: neuron.LIFNode(step_mode="m"), "own": OwnNeuron}


@pytest.mark.parametrize("make", NEURONS.values(), ids=NEURONS)
@pytest.mark.parametrize("order", ["merged", "swapped", "right"])
def test_samples_that_mix_inside_a_neuron_are_refused(make: Any, order: str) -> None:
    torch.manual_seed(0)
    network, images = Tokens(make, order), torch.rand(5, 3, 8)
    if order == "right":
        assert attach(network, example=images, labels=torch.arange(5) % 4, log=len).layout.batch_axis == 0
        return
    with pytest.raises(ValueError, match=r"altering one changes others too, first in what 'attend.spiking"):
        attach(network, example=images, labels=torch.arange(5) % 4, log=len)
