"""The neurons of SpikingJelly that a recipe can name compute what this library's do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shortcut_snn import components
from shortcut_snn.neurons import ILIF, LIF, ATan, Rectangle, Sigmoid, Surrogate, Triangle
from shortcut_snn.recipes import import_components

pytest.importorskip("spikingjelly")


def theirs(name: str, **options: Any) -> nn.Module:
    import_components([str(Path(__file__).parents[2] / "examples" / "spikingjelly_neurons.py")])
    return components.neuron.make(name, **options).build()


@pytest.mark.parametrize("surrogate", [Rectangle(0.5), Triangle(2.0, 0.5), ATan(2.0), Sigmoid(4.0)], ids=str)
def test_spikingjellys_neuron_is_ours(surrogate: Surrogate) -> None:
    torch.manual_seed(0)
    current = torch.randn(4, 3, 5)
    # Where the two could differ: at the threshold.
    current[0, 0] = 0.5
    outputs = []
    for neuron in (
        LIF(0.25, 0.5, surrogate=surrogate),
        theirs("spikingjelly_lif", decay=0.25, threshold=0.5, surrogate=surrogate),
    ):
        for _ in range(2):  # the second sequence starts from rest
            x = current.clone().requires_grad_()
            spikes = neuron(x)
            (spikes * torch.arange(5.0)).sum().backward()
        outputs.append((spikes.detach(), x.grad))
    torch.testing.assert_close(*outputs)


def test_spikingjellys_i_lif_is_ours() -> None:
    torch.manual_seed(0)
    current = 3 * torch.randn(4, 3, 5)
    outputs = []
    for neuron in (ILIF(0.5, 3, threshold=0.75), theirs("spikingjelly_ilif", decay=0.5, threshold=0.75, max_spikes=3)):
        for _ in range(2):  # the second sequence starts from rest
            x = current.clone().requires_grad_()
            counts = neuron(x)
            (counts * torch.arange(5.0)).sum().backward()
        outputs.append((counts.detach(), x.grad))
    assert outputs[0][0].max() == 3
    torch.testing.assert_close(*outputs)
