"""The base class makes no assumption about the layers of a network."""

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn.neurons import LIF


class Flat(nets.SpikingNetwork):
    """A network without a convolution."""

    def __init__(self) -> None:
        super().__init__(5, 2, 3, "mean")
        self.stage_names = ["spike"]
        self.spike = LIF()
        self.classifier = nn.Linear(12, 5)

    def features(self, x: Tensor) -> Tensor:
        return self.spike(x.expand(self.time_steps, *x.shape[1:])).flatten(2)


def test_a_network_needs_no_convolution() -> None:
    network = Flat()
    assert network(torch.rand(4, 3, 2, 2)).shape == (4, 5)
    with pytest.raises(ValueError, match=r"float64.*float32"):
        network(torch.rand(4, 3, 2, 2).double())
