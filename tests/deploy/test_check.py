"""A wrong export is refused and leaves no file; one that only rounds differently is accepted."""

import numpy as np
import pytest
import torch

from shortcut_snn.data import Digits
from shortcut_snn.deploy import Inference, fold, load
from shortcut_snn.deploy.export import check, compare
from shortcut_snn.neurons import LIF

from .networks import activated, batch, make_spec


def test_weights_off_by_a_thousandth_are_refused_in_a_deep_network():
    """Rounding alone moves an image of this network by a quarter of the largest logit."""
    torch.manual_seed(0)
    spec = make_spec(network={"kind": "resnet34", "width": 16, "time_steps": 4}, classes=[str(i) for i in range(100)])
    network, images = activated(spec.build()), batch(spec, 32)
    check(network, spec, Inference(fold(network), spec).logits, images)
    wrong = fold(network)
    with torch.no_grad():
        wrong.get_submodule("layer4.1.conv2").weight.mul_(1.001)
    with pytest.raises(ValueError, match="differs"):
        check(network, spec, Inference(wrong, spec).logits, images)


def scaled_threshold(network):
    network.get_submodule("layer1.0.spike1").neuron.threshold *= 1.01


def soft_reset(network):
    for module in network.modules():
        if isinstance(module, LIF):
            module.reset = "soft"


def permuted_classes(network):
    network.classifier.weight.copy_(network.classifier.weight.roll(1, 0))
    network.classifier.bias.copy_(network.classifier.bias.roll(1, 0))


@pytest.fixture(scope="module")
def digits():
    """A trained network, its specification, and test images."""
    network = load("digits-resnet18")
    return network.network, network.spec, Digits().load().test.fetch(np.arange(64))


def test_a_right_export_of_a_trained_network_is_accepted(digits):
    network, spec, images = digits
    assert check(network, spec, Inference(fold(network), spec).logits, images).agree == 64


@pytest.mark.parametrize("damage", [scaled_threshold, soft_reset, permuted_classes])
def test_a_wrong_export_of_a_trained_network_is_refused(digits, damage):
    network, spec, images = digits
    wrong = fold(network)
    with torch.no_grad():
        damage(wrong)
    with pytest.raises(ValueError, match="differs"):
        check(network, spec, Inference(wrong, spec).logits, images)


def test_agreement_counts_images():
    logits = torch.tensor([[1.0, 0.99, 0.0]]).repeat(8, 1)
    other = logits.clone()
    other[:3, 1] += 0.04
    other[3, 2] += 0.01
    agreement = compare(logits, other)
    assert (agreement.images, agreement.agree, agreement.moved) == (8, 5, 4)
    assert agreement.difference == pytest.approx(0.04)
    assert compare(logits, torch.full_like(logits, torch.nan)).moved == 8
    assert "5 of 8 predictions agree" in str(agreement)
