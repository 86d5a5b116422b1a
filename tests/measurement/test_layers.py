"""Reports of layers agree with autograd and with counting by hand, for built-in and third-party networks."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import spiking_resnet
from torch import nn
from torch.nn import functional as F

from shortcut_snn import diagnose, initialise, nets
from shortcut_snn.measurement import examine, probe
from shortcut_snn.measurement.layers import chain, gradient_factor
from shortcut_snn.neurons import LIF, ATan, Rectangle

from ..deep_peers import digits, spikingjelly
from ..diagnosis.helpers import batch, loss_of_mean, network


class ByHand(nn.Module):
    """Two spiking layers whose currents are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.spike1 = nn.Linear(5, 7), LIF(surrogate=ATan())
        self.fc2, self.spike2 = nn.Linear(7, 6), LIF(surrogate=ATan())
        self.out = nn.Linear(6, 10)

    def forward(self, x):
        self.first = self.fc1(x) * 3
        self.s1 = self.spike1(self.first)
        self.second = self.fc2(self.s1) * 3 + self.first.sum(-1, keepdim=True)
        self.s2 = self.spike2(self.second)
        return self.out(self.s2.mean(0)) + self.first.mean((0, 2), keepdim=False)[:, None]


def test_reports_agree_with_autograd():
    net, x, labels = ByHand(), torch.randn(3, 20, 5), torch.randint(0, 10, (20,))
    first, second = examine(net, [(x, labels)]).layers
    loss = F.cross_entropy(net(x), labels)
    # The second neuron's current goes nowhere else, so that its gradient is that of the tensor.
    (grad,) = torch.autograd.grad(loss, [net.second], retain_graph=True)
    assert second.norm == pytest.approx(grad.norm().item(), rel=1e-5)
    assert second.membrane_rms == pytest.approx(grad.square().mean().sqrt().item(), rel=1e-5)
    # The first one's does: only what comes through the neuron counts.
    (at_spikes,) = torch.autograd.grad(loss, [net.s1], retain_graph=True)
    (grad,) = torch.autograd.grad(net.s1, [net.first], at_spikes, retain_graph=True)
    assert first.norm == pytest.approx(grad.norm().item(), rel=1e-5)
    assert first.gain == pytest.approx(first.norm / second.norm)
    assert math.isnan(second.gain)
    (grad,) = torch.autograd.grad(loss, [net.fc2.weight])
    assert second.weight_rms == pytest.approx(grad.square().mean().sqrt().item(), rel=1e-5)
    for report, spikes in ((first, net.s1), (second, net.s2)):
        flat = spikes.detach().flatten(0, 1)
        assert report.rate == pytest.approx(flat.mean().item(), rel=1e-5)
        assert report.silent == pytest.approx((flat.sum(0) == 0).float().mean().item())
        assert report.saturated == pytest.approx((flat.sum(0) == len(flat)).float().mean().item())


def test_the_weights_of_a_projection_are_its_own():
    net, x, labels = nets.spiking_resnet8(10, 2, width=4, block="sew"), torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    reports = {layer.layer: layer.weight_rms for layer in examine(net, [(x, labels)]).layers}
    F.cross_entropy(net(x), labels).backward()
    for spikes, weights in (("layer2.0.project.spike", "layer2.0.project.conv"), ("layer2.0.spike2", "layer2.0.conv2")):
        grad = net.get_submodule(weights).weight.grad
        assert reports[spikes] == pytest.approx(grad.square().mean().sqrt().item(), rel=1e-4)


def test_examining_changes_nothing():
    net = network(Rectangle(), "basic").eval()
    images, labels = batch()
    F.cross_entropy(net(images), labels).backward()
    state, grads = copy.deepcopy(net.state_dict()), [p.grad.clone() for p in net.parameters()]
    random = torch.get_rng_state()
    examine(net, [(images, labels)])
    assert not net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("block", ["plain", "ms"])
def test_layers_come_in_the_order_of_the_network(block):
    layers = examine(network(Rectangle(), block), [batch()]).layers
    names = [layer.layer for layer in chain(layers)]
    assert len(names) == 17
    assert names[0] == ("layer1.0.spike1" if block == "ms" else "stem.spike")
    assert names[-1] == ("last_spike" if block == "ms" else "layer4.1.spike2")
    gains = [layer.gain for layer in chain(layers)][:-1]
    assert math.prod(gains) == pytest.approx(gradient_factor(layers), rel=1e-4)
    assert all(layer.weight_rms > 0 for layer in layers)


def test_saturated_and_silent_layers():
    net = network(ATan(), threshold=1e-3)
    with torch.no_grad():
        net.layer2[0].spike1.norm.bias.fill_(50.0)
        net.layer3[0].spike1.norm.bias.fill_(-50.0)
    reports = {layer.layer: layer for layer in examine(net, [batch()]).layers}
    assert reports["layer2.0.spike1"].saturated == 1.0
    assert reports["layer3.0.spike1"].silent == 1.0
    assert reports["stem.spike"].silent < 0.5


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_spikingjelly_network_in_either_mode(mode):
    net = spiking_resnet.spiking_resnet18(
        spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), num_classes=10
    )
    functional.set_step_mode(net, mode)
    frames, labels = torch.rand(2, 6, 3, 32, 32), torch.arange(6)

    def run(x):
        return net(x).mean(0) if mode == "m" else torch.stack([net(frame) for frame in x]).mean(0)

    class Run(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x):
            return run(x)

    layers = examine(Run(), [(frames, labels)]).layers
    assert len(layers) == 17
    with probe(net) as tallies:
        run(frames)
    functional.reset_net(net)
    # Running statistics moved, the batch's did not.
    assert [tally.rate for tally in tallies.values()] == [pytest.approx(layer.rate) for layer in layers]
    assert all(layer.norm > 0 and layer.weight_rms > 0 for layer in layers)


def test_a_probe_at_the_spikes_keeps_layers_fused():
    net, (images, labels) = network(ATan(), "basic"), batch()
    seen = {}

    def keep(module, args, output) -> None:
        output.register_hook(lambda grad: seen.update(grad=grad))

    net.layer1[0].spike1.register_forward_hook(keep)
    inner = net.layer1[0].spike1.neuron
    with probe(net, membrane=False) as tallies:
        F.cross_entropy(net(images), labels).backward()
        assert not inner._forward_hooks
        assert not inner._forward_pre_hooks
    assert tallies["layer1.0.spike1"].norm == pytest.approx(seen["grad"].norm().item(), rel=1e-5)


def initialise_first(net, batches, *loss):
    return initialise(net, *batches[0], *loss)


@pytest.mark.parametrize("origin", ["built-in", "third-party"])
@pytest.mark.parametrize("look", [examine, initialise_first, diagnose])
def test_no_grad_outside_does_not_matter(look, origin):
    if origin == "built-in":
        arguments = network(Rectangle(), "basic", "resnet8"), [batch()]
    else:
        arguments = spikingjelly("m"), [digits()], loss_of_mean
    with torch.no_grad():
        reports = look(*copy.deepcopy(arguments))
        assert not torch.is_grad_enabled()
    assert str(reports) == str(look(*arguments))


class Reused(nn.Module):
    """Layers with one neuron for all, or one each, in a loop over time or on the whole sequence."""

    def __init__(self, layers: int, make: Callable[[], nn.Module], shared: bool) -> None:
        super().__init__()
        one = make()
        self.encode = make()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(layers))
        self.neurons = nn.ModuleList(one if shared else make() for _ in range(layers))
        self.out = nn.Linear(6, 4)

    def run(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encode(x)
        for each, spike in zip(self.layers, self.neurons, strict=True):
            x = spike(3 * each(x))
        return self.out(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.encode, LIF):
            return self.run(x).mean(0)
        return torch.stack([self.run(step) for step in x]).mean(0)


@pytest.mark.parametrize("make", [LIF, neuron.IFNode])
@pytest.mark.parametrize("layers", [2, 3])
def test_a_neuron_that_serves_several_layers_is_refused(make, layers):
    data = 3 * torch.rand(5, 8, 6), torch.arange(8) % 4
    assert len(examine(Reused(layers, make, False), [data]).layers) == layers + 1
    shared = Reused(layers, make, True)
    for refuse in (examine, diagnose, lambda network, batches: initialise(network, *batches[0])):
        with pytest.raises(ValueError, match=r"the neuron 'neurons\.0' serves several layers"):
            refuse(shared, [data])


def test_a_current_outside_the_loop_over_time_serves_one_layer():
    class Static(Reused):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            current = 3 * self.layers[0](x[0])
            return sum(self.out(self.neurons[0](current)) for _ in x)

    data, static = (torch.rand(2, 8, 6), torch.arange(8) % 4), Static(1, neuron.IFNode, True)
    (report,) = examine(static, [data]).layers
    F.cross_entropy(static(data[0]), data[1]).backward()
    # Its weights are those before the loop, although the readout runs before its second call.
    assert report.weight_rms == pytest.approx(static.layers[0].weight.grad.square().mean().sqrt().item(), rel=1e-5)
