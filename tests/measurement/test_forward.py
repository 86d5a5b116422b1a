"""The share of the input that layers keep: 1 for a network that copies it, 0 for one that scrambles or forgets it."""

import math

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn
from torch.nn import functional

from shortcut_snn.diagnosis import judge
from shortcut_snn.measurement import LayerReport, examine
from shortcut_snn.neurons import LIF, ATan, Triangle

from ..diagnosis.helpers import batch, loss_of_mean, network


def copying(depth: int) -> nn.Module:
    """Each layer passes the spikes of the layer before it."""
    net = nn.Sequential(nn.Linear(40, 40), LIF(surrogate=ATan()))
    for _ in range(depth):
        same = nn.Linear(40, 40, bias=False)
        nn.init.eye_(same.weight)
        same.weight.data *= 1.5
        net += nn.Sequential(same, LIF(surrogate=ATan()))
    return net.append(nn.Linear(40, 4))


def kept(net: nn.Module, samples: int = 32) -> list[float]:
    torch.manual_seed(0)
    data = (6 * torch.randn(samples, 40)).expand(3, -1, -1), torch.arange(samples) % 4
    return [layer.kept for layer in examine(net, [data], loss_of_mean).layers]


def test_layers_that_copy_spikes_keep_the_input() -> None:
    shares = kept(copying(20))
    assert 0.9 < shares[0] <= 1
    assert shares == pytest.approx([shares[0]] * 21)


def test_the_share_is_that_of_distances_between_inputs_and_copies() -> None:
    net, one = network(Triangle(), "basic", "resnet8", steps=1), batch(16)
    noise = torch.randn(one[0].shape, generator=torch.Generator().manual_seed(0))
    spikes = []
    with torch.no_grad():
        for images in (one[0], one[0] + 0.1 * one[0].std() * noise):
            net(images)
            spikes.append(net.stem(images[None], 1)[0].flatten(1))
    near, far = (spikes[0] - spikes[1]).square().sum(), (spikes[0] - spikes[0].roll(1, 0)).square().sum()
    measured = examine(net, [one]).layers[0].kept
    # Of 864 neurons all are compared.
    assert measured == pytest.approx(float(1 - near / far), abs=1e-5)


def test_a_deep_network_of_random_blocks_loses_the_input() -> None:
    net = network(Triangle(), "basic", "resnet34")
    layers = examine(net, [batch(32)]).layers
    assert layers[0].kept > 0.8
    assert layers[-1].kept < 0.1
    verdict = judge(layers)
    assert verdict.lost > 0.5
    assert "the input is lost from layer" in verdict.sentence


def test_layers_that_forget_the_input_keep_nothing() -> None:
    net = copying(2)
    net[2].bias = nn.Parameter(torch.full((40,), 99.0))
    assert kept(net)[1:] == [0.0, 0.0]


class Functional(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(input=functional.dropout(x, training=self.training), training=self.training)


@pytest.mark.parametrize("dropout", [nn.Dropout(), layer.Dropout(step_mode="m"), Functional()])
def test_dropout_does_not_tell_samples_apart_that_are_forgotten(dropout: nn.Module) -> None:
    net = copying(2)
    net[2].bias = nn.Parameter(torch.full((40,), 99.0))
    assert kept(net.insert(4, dropout))[1:] == [0.0, 0.0]
    assert dropout.training


def test_one_sample_has_no_other_to_compare_with() -> None:
    assert all(math.isnan(share) for share in kept(copying(1), samples=1))


def test_integers_get_no_noise() -> None:
    net = nn.Sequential(nn.Embedding(9, 6), LIF(surrogate=ATan()), nn.Linear(6, 4))
    data = torch.randint(9, (3, 8)), torch.arange(8) % 4
    (report,) = examine(net, [data], loss_of_mean).layers
    assert math.isnan(report.kept)
    assert judge([report]).lost == 0


def test_a_verdict_names_the_layer_from_which_on_none_keeps_the_input() -> None:
    shares = [0.9, 0.05, 0.3, 0.08, 0.02]
    layers = [LayerReport(f"l{i}", 0.2, 0, 0, 1, 1, 1, 1, 0.5, share) for i, share in enumerate(shares)]
    verdict = judge(layers)
    assert (verdict.kind, verdict.layer, verdict.lost) == ("lost", "l3", 0.4)
    assert "in 2 of 5 layers" in verdict.sentence
