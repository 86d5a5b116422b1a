"""NIR graphs compute in other libraries what the network computes here; what NIR cannot represent is named."""

import contextlib
import io

import nir
import numpy as np
import pytest
import torch
from snntorch.import_nir import import_from_nir as to_snntorch
from spikingjelly.activation_based.nir_exchange import import_from_nir as to_spikingjelly
from torch import Tensor, nn

from shortcut_snn import components, nets
from shortcut_snn.deploy import NetworkSpec, export_network, fold
from shortcut_snn.deploy.export import network_logits
from shortcut_snn.deploy.nir_export import DT, nir_graph
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.neurons import IF, ILIF, LIF, PLIF

from .networks import activated, batch, family, firing_rates, make_spec

pytestmark = pytest.mark.filterwarnings("ignore")


def mean_logits(module: nn.Module, spec: NetworkSpec, images: Tensor) -> Tensor:
    """Run a module of another library step by step."""
    frames = Prepare(spec)(images)
    frames = frames if images.dim() == 5 else frames.expand(spec.time_steps, *frames.shape)
    state, logits = None, []
    with torch.no_grad():
        for frame in frames:
            out, state = module(frame, state)
            logits.append(out)
    return torch.stack(logits).mean(0)


@pytest.mark.parametrize("name", ["basic", "sew", "ms", "large stem", "vgg, max pooling", "plif", "if"])
def test_spikingjelly_and_snntorch_return_the_same_logits(name, tmp_path):
    network, spec = family(name)
    images = batch(spec)
    path, agreement = export_network(network, spec, images, "nir", tmp_path)
    assert agreement.difference < 1e-5
    expected = network_logits(network, spec, images)
    assert torch.allclose(mean_logits(to_spikingjelly(path, dt=DT), spec, images), expected, atol=1e-5)
    with contextlib.redirect_stdout(io.StringIO()):
        if name == "if":
            # snnTorch 1.0.0 refuses an IF node with r = 1 / dt, and reads one with r = 1 as a leaky neuron.
            with pytest.raises(AssertionError, match="r != 1 not supported"):
                to_snntorch(nir.read(path))
            return
        module = to_snntorch(nir.read(path))
    assert torch.allclose(mean_logits(module, spec, images), expected, atol=1e-5)


@pytest.mark.parametrize("block", ["basic", "sew", "ms"])
def test_counts_are_spikes_of_several_neurons(block, tmp_path):
    network = {"kind": "resnet8", "block": block, "width": 8, "time_steps": 1}
    spec = make_spec(network=network, neuron={"kind": "ilif", "max_spikes": 3})
    network, images = activated(spec.build()), batch(spec)
    assert max(firing_rates(network, spec, images).values()) > 0.3
    path, agreement = export_network(network, spec, images, "nir", tmp_path)
    assert agreement.difference < 1e-5
    expected = network_logits(network, spec, images)
    graph = nir.read(path)
    assert "layer1.0.spike1.3" in graph.nodes
    assert "layer1.0.spike1.4" not in graph.nodes
    with contextlib.redirect_stdout(io.StringIO()):
        modules = to_spikingjelly(path, dt=DT), to_snntorch(graph)
    for module in modules:
        assert torch.allclose(mean_logits(module, spec, images), expected, atol=1e-5)


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_counts_are_equal_at_every_threshold(threshold):
    neuron = ILIF(0.0, 5, threshold)
    network = activated(nets.SpikingResNet([1], 10, 3, width=4, make_neuron=lambda: ILIF(0.0, 5, threshold)))
    nodes = nir_graph(fold(network), make_spec()).nodes
    levels = [float(nodes[f"stem.spike.{n}"].v_threshold.flat[0]) for n in range(1, 6)]
    middle = torch.arange(-1, 7) * threshold / 2
    v = torch.cat(
        [middle, middle.nextafter(torch.tensor(-9.0)), middle.nextafter(torch.tensor(9.0)), torch.tensor([9.0])]
    )
    assert torch.equal(sum((v > level).float() for level in levels), neuron(v.view(1, 1, -1)).flatten())


def test_networks_of_events(tmp_path):
    network, spec = family("vgg, max pooling", events=True)
    assert export_network(network, spec, batch(spec), "nir", tmp_path)[1].difference < 1e-5


@pytest.mark.parametrize(("kind", "decay"), [("lif", 0.7), ("lif", 0.0), ("if", 1.0), ("plif", 0.3)])
def test_time_constants_give_the_decay_at_dt(kind, decay):
    make = IF if kind == "if" else lambda: {"lif": LIF, "plif": PLIF}[kind](decay)
    network = activated(nets.SpikingResNet([1], 10, 3, width=4, make_neuron=make))
    node = nir_graph(fold(network), make_spec()).nodes["stem.spike"]
    assert type(node) is (nir.IF if kind == "if" else nir.LIF)
    assert node.input_type["input"].tolist() == [4, 16, 16]
    assert (node.v_threshold == 1).all()
    assert (node.v_reset == 0).all()
    if kind == "if":
        assert np.allclose(node.r * DT, 1)
    else:
        assert np.allclose(1 - DT / node.tau, decay, atol=1e-7)
        assert np.allclose(node.r * DT / node.tau, 1)


class UserNetwork(nets.SpikingNetwork):
    """Layers without biases, flattening, or with ``part``: one that NIR cannot represent."""

    stage_names = ("spike1",)

    def __init__(self, num_classes, *, part: str = "", in_channels=3, time_steps=2, make_neuron=LIF):
        super().__init__(num_classes, time_steps, in_channels, "sequence" if part == "sequence" else "mean")
        self.part, self.conv = part, nn.Conv2d(in_channels, 4, 3, padding=2, dilation=2, bias=False)
        self.dropout, self.pool = nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2 if part == "pool" else 1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2 if part == "groups" else 1)
        self.spike1, self.spike2 = make_neuron(), make_neuron()
        self.classifier = nn.Linear(16 if part == "pool" else 4 * 16 * 16 if part == "flatten" else 4, num_classes)
        with torch.no_grad():
            for conv in (self.conv, self.second):
                conv.weight.mul_(3)

    def features(self, x):
        current = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        spikes = self.spike1(current.expand(self.time_steps, *current.shape[1:]))
        shape = spikes.shape[:2]
        current = self.second(self.dropout(spikes.flatten(0, 1)))
        current = (current + current if self.part == "twice" else current).unflatten(0, shape)
        spikes = (self.spike1 if self.part == "shared" else self.spike2)(current)
        if self.part == "flatten":
            return spikes.flatten(2)
        return self.pool(spikes.flatten(0, 1)).flatten(1).unflatten(0, shape)


def user_network(part):
    components.network("nir_user_network")(UserNetwork)
    spec = NetworkSpec.from_dict({**make_spec().to_dict(), "network": {"kind": "nir_user_network", "part": part}})
    return spec.build().eval(), spec


@pytest.mark.parametrize("part", ["", "flatten"])
def test_a_users_network_is_written(part, tmp_path, forgotten):
    network, spec = user_network(part)
    images = batch(spec)
    assert min(firing_rates(network, spec, images).values()) > 0.01
    path, _ = export_network(network, spec, images, "nir", tmp_path)
    expected = network_logits(network, spec, images)
    assert torch.allclose(mean_logits(to_spikingjelly(path, dt=DT), spec, images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "keyword"),
    [
        ("groups", "grouped convolutions, as in second"),
        ("twice", "spike2, which takes the output of second twice"),
        ("shared", "spike1, which is called twice"),
        ("pool", "adaptive pooling to 2"),
        ("sequence", "every time step"),
    ],
)
def test_unsupported_parts_of_a_users_network_are_named(part, keyword, tmp_path, forgotten):
    network, spec = user_network(part)
    with pytest.raises(ValueError, match=keyword):
        export_network(network, spec, batch(spec), "nir", tmp_path)


@pytest.mark.parametrize(
    ("keyword", "options"),
    [
        ("soft reset, as in stem.spike", {"neuron": {"kind": "lif", "reset": "soft"}}),
        ("several time steps, as in stem.spike: a NIR neuron that fires is set to a", {"neuron": "ilif"}),
        ("rounds up, as for 3 x 3", {"network": {"kind": "vgg11"}, "image_size": [12, 12]}),
        ("max pooling", {"network": {"kind": "resnet18", "block": "ms", "stem": "large"}}),
        ("layer1.0.attention", {"network": {"kind": "qkformer", "block": "sew", "blocks": [1, 1], "heads": 2}}),
    ],
)
def test_unsupported_parts_of_built_in_networks_are_named(keyword, options):
    spec = make_spec(**options)
    with pytest.raises(ValueError, match=keyword):
        nir_graph(fold(activated(spec.build())), spec)
