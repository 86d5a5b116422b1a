"""Firing rates are means of spikes."""

import pytest
import torch

from shortcut_snn import nets
from shortcut_snn.deploy import fold
from shortcut_snn.energy import firing_rates
from shortcut_snn.introspection import spiking_layers


def test_every_spiking_layer_is_listed_once():
    net = nets.spiking_resnet19(10, 2, width=4)
    names = list(spiking_layers(net))
    assert names[0] == "stem.spike"
    assert len(names) == 18, "17 convolutions and a hidden layer"
    assert not [name for name in names if name.endswith((".neuron", ".norm"))]


def test_a_folded_network_has_the_same_rates():
    net = nets.spiking_resnet8(10, 2, width=4).eval()
    folded, images = fold(net), torch.randn(2, 3, 16, 16)
    assert list(spiking_layers(folded)) == list(spiking_layers(net))
    with torch.no_grad(), firing_rates(net) as rates, firing_rates(folded) as same:
        net(images)
        folded(images)
    assert {name: pytest.approx(rate.item(), abs=0.01) for name, rate in rates.items()} == {
        name: rate.item() for name, rate in same.items()
    }


def test_rates_are_means_of_spikes():
    net = nets.spiking_resnet8(10, 3, width=4).eval()
    images = torch.randn(2, 3, 16, 16)
    seen = {}
    for name, layer in spiking_layers(net).items():
        layer.register_forward_hook(lambda module, args, output, name=name: seen.update({name: output.mean().item()}))
    with firing_rates(net) as rates, torch.no_grad():
        net(images)
    assert {name: pytest.approx(rate.item()) for name, rate in rates.items()} == seen
    assert any(rate > 0 for rate in (value.item() for value in rates.values()))
