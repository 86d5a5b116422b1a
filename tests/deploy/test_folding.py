"""A folded network computes what the network computes, without batch norms."""

import pytest
import torch
from torch import nn

from shortcut_snn import nets
from shortcut_snn.deploy.check import check, first_difference
from shortcut_snn.deploy.folding import fold
from shortcut_snn.deploy.step import StepNetwork
from shortcut_snn.deploy.torch_runtime import TorchRuntime, TrainedNetwork
from shortcut_snn.neurons import LIF, use_backend

from .networks import FAMILIES, batch, family, lively


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name, events):
    network, about = family(name, events)
    reference, images = TrainedNetwork(network, about), batch(about)
    rates = [spikes.mean().item() for spikes in reference.spikes(images).values()]
    assert min(rates) > 0.001, "a silent network would agree with anything"
    folded = fold(network)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    for backend in ("auto", "eager"):
        with use_backend(backend):
            runtime = TorchRuntime(folded, about)
            assert check(reference, runtime, images).difference < 1e-5
            assert first_difference(reference, runtime, images) == "all spikes are equal, so the classifier differs"


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("name", ["basic", "sew", "ms", "hidden", "vgg, max pooling", "qkformer", "plif"])
def test_time_steps_one_by_one(name, reset):
    network, about = family(name, events=True)
    for module in network.modules():
        if hasattr(module, "reset"):
            module.reset = reset
    folded, frames = fold(network), batch(about).transpose(0, 1).float()
    steps, state, total = StepNetwork(folded), (), torch.zeros(())
    with torch.no_grad():
        for frame in frames:
            logits, *state = steps(frame, *state)
            total = total + logits
        assert torch.allclose(total / len(frames), folded(frames), atol=1e-6)
        # What it starts from is 0, and what it gave back is what it needs.
        again = steps(frames[0], *steps.start(frames[0]))
        assert torch.equal(again[0], steps(frames[0])[0])
    assert folded.time_steps == about.time_steps
    assert len(state) == len(steps.names)


def test_the_network_stays_as_it_was():
    network, _ = family("basic")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training is False
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_a_network_that_does_not_say_what_it_takes():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), LIF()).eval()
    with pytest.raises(ValueError, match="a Sequential does not say what it takes: pass example="):
        fold(network)


def test_what_cannot_be_folded_is_named():
    network = lively(nets.SpikingResNet([1], [4], 10, 2))
    network.layer1[0].spike1.norm.running_mean = None
    with pytest.raises(ValueError, match=r"batch norm layer1\.0\.spike1\.norm has no running statistics"):
        fold(network)
    network = lively(nets.SpikingResNet([1], [4], 10, 2))
    network.stem.pool = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"batch norm stem\.pool\.1 follows no layer"):
        fold(network)


class Odd(nn.Module):
    """A convolution, a norm and a neuron, and ways in which the norm is not the convolution's alone."""

    def __init__(self, way):
        super().__init__()
        self.way, self.conv, self.other = way, nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.spike, self.linear = nn.BatchNorm2d(4), LIF(threshold=0.5), nn.Linear(4, 4)
        self.tokens = nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.conv(x)
        current = self.norm(y)
        if self.way == "past the norm":
            current = current + y
        elif self.way == "past the norm by name":
            current = torch.add(input=current, other=y)
        elif self.way == "a norm of two":
            current = current + self.norm(self.other(x))
        elif self.way == "a layer for two":
            current = current + self.conv(x.flip(-1))
        elif self.way == "tokens":
            return self.spike(self.tokens(self.linear(current[..., 0])).expand(2, -1, -1, -1)).mean(0)
        return self.spike(current.expand(2, *current.shape)).mean((0, -1, -2))


def test_a_norm_that_is_not_its_layers_alone_is_refused():
    x = torch.randn(6, 3, 4, 4)
    for way in ("past the norm", "past the norm by name", "a norm of two", "a layer for two", "tokens"):
        network = Odd(way).eval()
        with pytest.raises(ValueError, match=f"batch norm {'tokens' if way == 'tokens' else 'norm'} follows no layer"):
            fold(network, x)
    network = Odd("alone").eval()
    network.tokens = nn.Identity()
    assert torch.equal(fold(network, x)(x), network(x))
