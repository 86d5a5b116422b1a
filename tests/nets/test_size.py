"""How large a network is, found out without building it for good."""

import dataclasses

import pytest
import torch

from shortcut_snn import components
from shortcut_snn.machine import TooLarge
from shortcut_snn.nets.size import check_size
from shortcut_snn.neurons import LIF, Neuron

DATA = {"classes": ["cat", "dog"], "channels": 3, "image_size": [8, 8], "kind": "static"}


@dataclasses.dataclass(frozen=True)
class Listed:
    """Options that cannot be hashed, as a person's own may be."""

    decays: list[float]

    def build(self) -> Neuron:
        return LIF(self.decays[0])


@pytest.mark.parametrize("neuron", [Listed([0.5]), components.neuron.make("lif")], ids=["listed", "lif"])
def test_the_same_is_said_the_second_time(neuron: object) -> None:
    network = components.network.make("resnet8", width=2, time_steps=10**9)
    state = torch.get_rng_state()
    for _ in range(2):
        check_size(components.network.make("resnet8", width=2), neuron, DATA)
        with pytest.raises(TooLarge, match="1,000,000,000 steps of 1,000 images"):
            check_size(network, neuron, DATA, batch=1000)
    assert torch.equal(torch.get_rng_state(), state)
