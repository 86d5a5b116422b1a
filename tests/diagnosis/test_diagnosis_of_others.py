"""Diagnosing networks that others wrote, called as they are meant to be without anybody saying how."""

import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from shortcut_snn import attach
from shortcut_snn.diagnosis import diagnose, examine
from shortcut_snn.diagnosis.verdict import judge
from shortcut_snn.neurons import LIF, Rectangle

LABELS = torch.tensor([0, 1, 2, 3])


def blocks(make, depth: int, linear=nn.Linear, norm=nn.BatchNorm1d) -> list[nn.Module]:
    torch.manual_seed(0)
    found: list[nn.Module] = []
    for number in range(depth):
        found += [linear(6 if number == 0 else 12, 12), norm(12), make()]
    return [*found, linear(12, 5)]


def spikingjelly(alpha: float = 0.2) -> nn.Module:
    net = nn.Sequential(
        *blocks(
            lambda: neuron.LIFNode(surrogate_function=surrogate.ATan(alpha)),
            8,
            layer.Linear,
            lambda width: layer.SeqToANNContainer(nn.BatchNorm1d(width)),
        )
    )
    functional.set_step_mode(net, "m")
    return net


class BatchFirst(nn.Module):
    """``[N, T, F]`` in, and a tuple out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = spikingjelly()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return self.net(x.transpose(0, 1)).transpose(0, 1), "what else it gives"


@pytest.mark.parametrize("first", ["time", "batch"])
def test_spikingjelly_without_a_word(first):
    net = spikingjelly() if first == "time" else BatchFirst()
    x = 3 * torch.randn(4, 4, 6)
    found = diagnose(net, [(x, LABELS)])
    assert found.verdict.kind == "vanishes"
    assert len(found.layers) == 8
    texts = {tip.text.split()[0] for tip in found.tips}
    assert {"alpha", "calibrate", "branches"} <= texts
    assert not any(module._forward_hooks for module in net.modules())
    again = diagnose(net, [(x, LABELS)])
    assert again.verdict.sentence == found.verdict.sentence


def test_calibration_is_measured_on_snntorch_too():
    flat = snntorch.surrogate.atan(alpha=0.2)
    net = nn.Sequential(*blocks(lambda: snntorch.Leaky(beta=0.8, init_hidden=True, spike_grad=flat), 8))
    x = 3 * torch.randn(4, 4, 6)
    found = diagnose(attach(net, [], example=x, loop="input", batch_axis=1, log=len), [(x, LABELS)])
    assert found.verdict.kind == "vanishes"
    (tip,) = (tip for tip in found.tips if tip.text.startswith("calibrate"))
    assert tip.text == """calibrate each layer's surrogate (attach(..., method="calibrated"), or calibrate)"""
    assert tip.after.kind == "healthy"


def test_snntorch_of_one_step_and_no_known_remedy():
    straight = snntorch.surrogate.straight_through_estimator()
    net = nn.Sequential(*blocks(lambda: snntorch.Leaky(beta=0.8, init_hidden=True, spike_grad=straight), 2))
    x = torch.randn(4, 4, 6)
    wrapper = attach(net, 1, example=x, loop="input", log=len)
    for each in (net[2], net[5]):
        each.threshold.fill_(50.0)
    loss = nn.functional.cross_entropy
    found = diagnose(wrapper, [(x, LABELS)], lambda output, labels: loss(output.main, labels))
    assert found.verdict.kind == "silent"
    assert [each.layer for each in found.layers] == ["2", "5"]
    assert str(found).endswith("no remedy is known for it")


class Own(nn.Module):
    """Plain PyTorch around neurons of this library, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks(lambda: LIF(surrogate=Rectangle(4.0)), 8, norm=nn.Identity))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(0, 1)
        for each in self.layers:
            x = each(x)
        return x.transpose(0, 1)


def test_a_plain_network_with_neurons_of_ours():
    net = Own()
    found = diagnose(net, [(20 * torch.randn(4, 4, 6), LABELS)])
    assert len(found.layers) == 8
    assert found.verdict.kind in ("vanishes", "silent")
    assert found.tried > 10


def test_a_remedy_that_cannot_be_built_is_left_out():
    """There are no stages and no blocks; where nothing fires, what low thresholds show is what is found."""
    net = nn.Sequential(layer.Linear(6, 12), neuron.LIFNode(v_threshold=99.0), layer.Linear(12, 5))
    functional.set_step_mode(net, "m")
    found = diagnose(net, [(torch.randn(3, 4, 6), LABELS)])
    assert found.verdict.kind == "silent"
    assert not found.tips


class OneForAll(nn.Module):
    """One neuron module behind layers of different widths, each with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(8, 3)])
        self.neuron = snntorch.Leaky(beta=0.9)

    def forward(self, x):
        states, outputs = [torch.zeros(1)] * 3, []
        for spikes in x:
            for number, linear in enumerate(self.layers):
                spikes, states[number] = self.neuron(linear(spikes), states[number])
            outputs.append(states[-1])
        return torch.stack(outputs).mean(0)


def test_a_neuron_module_of_several_layers_is_watched() -> None:
    batch = (6 * torch.rand(4, 8, 6), torch.arange(8) % 3)
    found = diagnose(OneForAll(), [batch])
    (layer,) = found.layers
    assert layer.layer == "neuron"
    assert 0 < layer.rate < 1
    assert 0 <= layer.silent <= 1


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_neurons_that_need_no_gradient_are_not_dead(frozen: int) -> None:
    """They encode the input, or lie behind frozen layers: the verdict is that of the others."""
    torch.manual_seed(0)
    linears = [nn.Linear(10, 20), nn.Linear(20, 20), nn.Linear(20, 20)]
    for linear in linears:
        linear.weight.data *= 3
    spikes = [LIF(surrogate=Rectangle(2.0)) for _ in range(4)]
    network = nn.Sequential(spikes[0], linears[0], spikes[1], linears[1], spikes[2], linears[2], spikes[3], Means())
    for linear in linears[:frozen]:
        linear.requires_grad_(False)
    batch = (2 * torch.rand(8, 16, 10), torch.arange(16) % 3)
    verdict = judge(examine(network, [batch]).layers)
    if frozen == 3:
        assert verdict.sentence == "no gradient is needed at any of its neurons: whatever lies before them is frozen"
    else:
        assert "dead" not in verdict.sentence
        assert verdict.sentence.startswith("healthy: from 6 back to " + {0: "2", 1: "4"}[frozen])


class Means(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        return self.head(x.mean(0))
