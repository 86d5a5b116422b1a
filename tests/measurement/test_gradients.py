"""Weight gradients are those of a usual backward pass, and measuring them changes nothing."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from shortcut_snn import nets, wrap
from shortcut_snn.measurement import measure_gradients
from shortcut_snn.measurement.gradients import first_to_last_ratio, gradient_rms


@pytest.fixture
def model():
    network = nets.spiking_resnet8(10, 2, width=4)
    return wrap(network, network.layout("stages"), "evolutionary", log=len)


@pytest.fixture
def batch():
    return torch.randn(6, 3, 16, 16), torch.randint(0, 10, (6,))


def test_lambda_zero_gives_the_gradients_of_the_network_alone(model, batch):
    plain = copy.deepcopy(model.network).train()
    F.cross_entropy(plain(batch[0]), batch[1]).backward()
    report = measure_gradients(model, *batch, 0.0)
    names = list(report.rms)
    assert (names[0], names[-1], len(names)) == ("stem.conv", "layer3.0.conv2", 7), "no projections, no readout"
    for name, rms in report.rms.items():
        expected = plain.get_submodule(name).weight.grad.square().mean().sqrt().item()
        assert rms == pytest.approx(expected, rel=1e-6)
    assert torch.equal(report.first, plain.stem.conv.weight.grad.flatten())
    assert first_to_last_ratio(report.rms) == report.rms["stem.conv"] / report.rms["layer3.0.conv2"]
    assert measure_gradients(model, *batch, 1.0).rms["stem.conv"] != report.rms["stem.conv"]


def test_degenerate_gradients(model):
    assert first_to_last_ratio({"a": 2.0, "b": 1.0}) == 2.0
    assert first_to_last_ratio({"a": 2.0, "b": 0.0}) == math.inf
    assert math.isnan(first_to_last_ratio({"a": 0.0, "b": 0.0}))
    assert math.isnan(first_to_last_ratio({}))
    assert gradient_rms(model.network) == {}


def test_frozen_layers_have_no_gradient():
    network = nets.spiking_resnet8(10, 2, width=4)
    model = wrap(network, network.layout([]), "vanilla")
    network.stem.requires_grad_(False)
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    report = measure_gradients(model, images, labels, 0.0)
    assert report.first.numel() == network.layer1[0].conv1.weight.numel()
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad"):
        measure_gradients(model, images, labels, 0.0)
