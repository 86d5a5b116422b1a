"""A folded network computes what the network computes, without batch norms."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from shortcut_snn import nets
from shortcut_snn.deploy import Inference, fold
from shortcut_snn.deploy.single_step import SingleStep
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.neurons import LIF, PSN, use_backend

from .networks import FAMILIES, activated, batch, family, firing_rates


@pytest.mark.parametrize(
    ("name", "events"), [*((name, False) for name in FAMILIES), ("ms", True), ("vgg, max pooling", True)]
)
@torch.no_grad()
def test_folding_keeps_the_logits_of_every_family(name, events):
    network, spec = family(name, events)
    images = batch(spec)
    assert min(firing_rates(network, spec, images).values()) > 0.001, "a silent network would agree with anything"
    expected, folded = network(Prepare(spec)(images)), fold(network)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    # The kernels of one family stand for those of all.
    for backend in ("auto", "eager") if name == "basic" else ("eager",):
        with use_backend(backend):
            torch.testing.assert_close(Inference(folded, spec).logits(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reset"),
    [("basic", "hard"), ("sew", "soft"), ("hidden", "hard"), ("vgg, max pooling", "soft"), ("qkformer", "hard"),
     ("plif", "soft")],
)  # fmt: skip
@torch.no_grad()
def test_single_steps_average_to_the_sequence(name, reset):
    network, spec = family(name, events=True)
    for module in network.modules():
        if hasattr(module, "reset"):
            module.reset = reset
    folded, frames = fold(network), batch(spec).transpose(0, 1).float()
    single_step, state, total = SingleStep(folded), (), torch.zeros(())
    for frame in frames:
        logits, *state = single_step(frame, *state)
        total = total + logits
    assert torch.allclose(total / len(frames), folded(frames), atol=1e-6)
    first = single_step(frames[0])[0]
    assert torch.equal(single_step(frames[0], *single_step.initial_state(frames[0]))[0], first)
    assert folded.time_steps == spec.time_steps
    assert len(state) == len(single_step.names)


@torch.no_grad()
def test_parallel_neurons_are_folded():
    network = activated(nets.spiking_resnet8(10, 2, width=4, make_neuron=lambda: PSN(2)))
    images = torch.randn(4, 3, 16, 16)
    # As when a file is read: nothing is computed.
    folded = fold(network, images.to("meta"))
    torch.testing.assert_close(folded(images), network(images), rtol=0, atol=1e-5)


def test_folding_does_not_change_the_network():
    network, _ = family("basic")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        for parameter in fold(network).parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_pruned_weights_have_to_be_permanent():
    network = nets.spiking_resnet8(10, 2, width=4)
    layer, images = network.layer1[0].conv1, torch.rand(2, 3, 8, 8)
    prune.l1_unstructured(layer, "weight", 0.5)
    network(images).sum().backward()
    with pytest.raises(ValueError, match=r"SpikingResNet cannot be copied.*prune\.remove"):
        fold(network)
    prune.remove(layer, "weight")
    assert torch.allclose(fold(network)(images), network.eval()(images), atol=1e-5)


def test_a_network_without_an_example_needs_one():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), LIF()).eval()
    with pytest.raises(ValueError, match="example="):
        fold(network)
    with pytest.raises(ValueError, match=r"no neurons of this package.* wrap it, attach\(net, \[\], example="):
        fold(nn.Sequential(nn.Linear(2, 2)), torch.rand(1, 2))


def test_batch_norms_that_cannot_be_folded_are_named():
    network = activated(nets.SpikingResNet([1], 10, 2, width=4))
    network.layer1[0].spike1.norm.running_mean = None
    with pytest.raises(ValueError, match=r"layer1\.0\.spike1\.norm has no running statistics"):
        fold(network)
    network = activated(nets.SpikingResNet([1], 10, 2, width=4))
    network.stem.pool = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"stem\.pool\.1 cannot be folded"):
        fold(network)


def test_a_norm_with_a_forward_of_its_own_is_refused():
    class Halved(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / 2

    network = activated(nets.SpikingResNet([1], 10, 2, width=4))
    network.layer1[0].spike1.norm = Halved(4)
    with pytest.raises(ValueError, match=r"layer1\.0\.spike1\.norm cannot be folded: Halved has a forward of its own"):
        fold(network)


class SharedNorm(nn.Module):
    """A convolution, a batch norm and a neuron, wired so that ``case`` decides what else reads or feeds them."""

    def __init__(self, case):
        super().__init__()
        self.case, self.conv, self.other = case, nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.spike, self.linear = nn.BatchNorm2d(4), LIF(threshold=0.5), nn.Linear(4, 4)
        self.token_norm, self.relu = nn.BatchNorm1d(4), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv(x)
        current = self.norm(self.relu(y) if self.case == "changed in place" else y)
        if self.case == "output read twice":
            current = current + y
        elif self.case == "output read twice by keyword":
            current = torch.add(input=current, other=y)
        elif self.case == "norm called twice":
            current = current + self.norm(self.other(x))
        elif self.case == "layer called twice":
            current = current + self.conv(x.flip(-1))
        elif self.case == "another axis":
            return self.spike(self.token_norm(self.linear(current[..., 0])).expand(2, -1, -1, -1)).mean(0)
        return self.spike(current.expand(2, *current.shape)).mean((0, -1, -2))


@pytest.mark.parametrize(
    "case",
    ["output read twice", "output read twice by keyword", "norm called twice", "layer called twice", "another axis",
     "changed in place"],
)  # fmt: skip
def test_a_norm_that_shares_its_layer_is_refused(case):
    norm = "token_norm" if case == "another axis" else "norm"
    with pytest.raises(ValueError, match=f"batch norm {norm} cannot be folded"):
        fold(SharedNorm(case).eval(), torch.randn(6, 3, 4, 4))


def test_a_norm_alone_with_its_layer_is_folded():
    network, x = SharedNorm("alone").eval(), torch.randn(6, 3, 4, 4)
    network.token_norm = nn.Identity()
    assert torch.equal(fold(network, x)(x), network(x))


@torch.no_grad()
def test_a_neuron_in_several_places_has_a_membrane_in_each():
    lif = LIF()
    torch.manual_seed(0)
    network = nets.spiking_resnet8(4, 3, width=8, block="ms", make_neuron=lambda: lif).eval()
    frames = torch.randn(3, 4, 3, 8, 8)
    single_step, state, total = SingleStep(fold(network)), (), torch.zeros(())
    for frame in frames:
        logits, *state = single_step(frame, *state)
        total = total + logits
    torch.testing.assert_close(total / 3, network(frames), rtol=1e-4, atol=1e-5)
