"""NIR graphs do in other libraries what the network does here, and where they cannot, the reason is told."""

import contextlib
import io

import nir
import nirtorch
import numpy as np
import pytest
import torch
from snntorch.import_nir import import_from_nir as to_snntorch
from spikingjelly.activation_based.nir_exchange import import_from_nir as to_spikingjelly
from torch import Tensor, nn

from shortcut_snn import components, nets
from shortcut_snn.deploy import Description, export_network
from shortcut_snn.deploy.check import check, first_difference
from shortcut_snn.deploy.folding import fold
from shortcut_snn.deploy.nir_export import EulerNeuron, NirRuntime, write_nir
from shortcut_snn.deploy.nir_graph import DT, nir_graph
from shortcut_snn.deploy.prepare import Prepare
from shortcut_snn.deploy.torch_runtime import TrainedNetwork
from shortcut_snn.neurons import IF, LIF, PLIF

from .networks import FAMILIES, batch, description, family, lively

pytestmark = pytest.mark.filterwarnings("ignore")


def mean_of_steps(module: nn.Module, frames: Tensor) -> Tensor:
    """Run a module of another library over frames ``[T, N, ...]``."""
    state, logits = None, []
    with torch.no_grad():
        for frame in frames:
            out, state = module(frame, state)
            logits.append(out)
    return torch.stack(logits).mean(0)


@pytest.mark.parametrize("name", [name for name in FAMILIES if "qkformer" not in name])
def test_spikingjelly_and_snntorch(name, tmp_path):
    network, about = family(name)
    reference, images = TrainedNetwork(network, about), batch(about)
    path = tmp_path / "network.nir"
    write_nir(nir_graph(fold(network), about), path)
    expected = reference.whole(images)
    frames = Prepare(about)(images).expand(about.time_steps, *images.shape)
    jelly = mean_of_steps(to_spikingjelly(path, dt=DT), frames)
    assert torch.allclose(jelly, expected, atol=1e-5)
    with contextlib.redirect_stdout(io.StringIO()):
        if name == "if":
            # snnTorch 1.0.0 reads an IF node with r = 1 / dt not at all, and one with r = 1 as a leaky neuron.
            with pytest.raises(AssertionError, match="r != 1 not supported"):
                to_snntorch(nir.read(path))
            return
        torch_snn = mean_of_steps(to_snntorch(nir.read(path)), frames)
    assert torch.allclose(torch_snn, expected, atol=1e-5)


def test_spikes_are_those_of_the_network(tmp_path):
    for name in ("ms", "vgg, max pooling"):
        network, about = family(name, events=True)
        reference, images = TrainedNetwork(network, about), batch(about)
        write_nir(nir_graph(fold(network), about), tmp_path / "network.nir")
        runtime = NirRuntime(tmp_path / "network.nir", about)
        check(reference, runtime, images)
        assert first_difference(reference, runtime, images).startswith("all spikes are equal")


def test_round_trip_through_nirtorch(tmp_path):
    """Graph to torch module and back: the same nodes, the same edges, the same parameters."""
    network, about = family("vgg, average pooling")
    graph = nir_graph(fold(network), about)
    write_nir(graph, tmp_path / "network.nir")
    read = nir.read(tmp_path / "network.nir")
    assert set(read.edges) == set(graph.edges)

    def same(a: nir.NIRNode, b: nir.NIRNode) -> bool:
        mine, yours = a.to_dict(), b.to_dict()
        return mine.keys() == yours.keys() and all(np.array_equal(mine[key], yours[key]) for key in mine)

    assert all(same(read.nodes[name], node) for name, node in graph.nodes.items())
    runtime = NirRuntime(tmp_path / "network.nir", about)
    back = nirtorch.torch_to_nir(
        runtime.module.get_submodule("classifier"), {nn.Linear: lambda m: nir.Affine(m.weight.numpy(), m.bias.numpy())}
    )
    assert same(back, graph.nodes["classifier"])


@pytest.mark.parametrize(("kind", "tau"), [("lif", 0.5), ("lif", 0.7), ("lif", 0.0), ("if", 1.0), ("plif", 0.3)])
def test_time_constants(kind, tau):
    """tau and r of the node are those of our decay at the step that they are written for."""
    about = description()
    make = IF if kind == "if" else lambda: {"lif": LIF, "plif": PLIF}[kind](tau)
    network = lively(nets.SpikingResNet([1], [4], 10, 3, make_neuron=make))
    node = nir_graph(fold(network), about).nodes["stem.spike"]
    assert type(node) is (nir.IF if kind == "if" else nir.LIF)
    assert node.input_type["input"].tolist() == [4, 16, 16]
    assert (node.v_threshold == 1).all()
    assert (node.v_reset == 0).all()
    if kind == "if":
        assert np.allclose(node.r * DT, 1)
    else:
        assert np.allclose(1 - DT / node.tau, tau, atol=1e-7)
        assert np.allclose(node.r * DT / node.tau, 1)


def test_at_the_threshold_itself():
    """NIR and we fire above the threshold, SpikingJelly at it; the next number above makes it the same."""
    at, above = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    current = torch.tensor([[float(at), float(above)]])
    ours = LIF(0.5)(current[None])[0]
    assert ours.tolist() == [[0, 1]]
    assert EulerNeuron(0.5, 1.0, 1.0, 0.0)(current)[0].tolist() == [[0, 1]]

    def spikes(threshold: float) -> list[list[float]]:
        each = np.ones(2)
        node = nir.LIF(
            tau=each * 2 * DT, r=each * 2, v_leak=each * 0, v_threshold=each * threshold, v_reset=each * 0
        )  # fmt: skip
        types = {"input": np.array([2])}
        nodes = {"input": nir.Input(types), "lif": node, "output": nir.Output({"output": np.array([2])})}
        graph = nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")], metadata={})
        return to_spikingjelly(graph, dt=DT)(current)[0].tolist()

    assert spikes(1.0) == [[1, 1]]
    assert spikes(float(above)) == [[0, 1]]


class OfOnesOwn(nets.SpikingNetwork):
    """Without norms, biases, and a mean over space."""

    stage_names = ("spike1",)

    def __init__(self, num_classes, *, in_channels=3, image_size=(16, 16), time_steps=2, make_neuron=LIF):
        super().__init__(num_classes, time_steps, in_channels, "mean")
        self.conv, self.spike1 = nn.Conv2d(in_channels, 4, 3, 2, 1, bias=False), make_neuron()
        self.hidden = nn.Linear(image_size[0] * image_size[1], 12, bias=False)
        self.spike2, self.classifier = make_neuron(), nn.Linear(12, num_classes)

    def features(self, x):
        current = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        spikes = self.spike1(current.expand(self.time_steps, *current.shape[1:]))
        return self.spike2(self.hidden(spikes.flatten(2)))


def test_a_network_of_ones_own_without_biases_that_flattens(tmp_path, forgotten):
    components.network("nir_of_ones_own")(OfOnesOwn)
    about = Description.from_about({**description().to_dict(), "network": {"kind": "nir_of_ones_own"}})
    network = about.build().eval()
    with torch.no_grad():
        network.conv.weight.mul_(3)
        network.hidden.weight.mul_(6)
    reference, images = TrainedNetwork(network, about), batch(about)
    assert min(spikes.mean().item() for spikes in reference.spikes(images).values()) > 0.01
    write_nir(nir_graph(fold(network, about.blank()), about), tmp_path / "network.nir")
    frames = Prepare(about)(images).expand(about.time_steps, *images.shape)
    found = mean_of_steps(to_spikingjelly(tmp_path / "network.nir", dt=DT), frames)
    assert torch.allclose(found, reference.whole(images), atol=1e-5)


class Ordinary(OfOnesOwn):
    """With parts that do nothing at inference, or that NIR says otherwise; or one that it cannot say."""

    def __init__(self, num_classes, *, part: str = "", in_channels=3, time_steps=2, make_neuron=LIF):
        nets.SpikingNetwork.__init__(
            self, num_classes, time_steps, in_channels, "sequence" if part == "sequence" else "mean"
        )
        self.part, self.conv = part, nn.Conv2d(in_channels, 4, 3, padding="same", dilation=2)
        self.dropout, self.pool = nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1 if part != "pool" else 2)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2 if part == "groups" else 1)
        self.spike1, self.spike2 = make_neuron(), make_neuron()
        self.classifier = nn.Linear(16 if part == "pool" else 4, num_classes)

    def features(self, x):
        current = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        spikes = self.spike1(current.expand(self.time_steps, *current.shape[1:]))
        shape = spikes.shape[:2]
        current = self.grouped(self.dropout(spikes.flatten(0, 1)))
        current = (current + current if self.part == "twice" else current).unflatten(0, shape)
        spikes = (self.spike1 if self.part == "shared" else self.spike2)(current)
        return self.pool(spikes.flatten(0, 1)).flatten(1).unflatten(0, shape)


def ordinary(part):
    components.network("nir_ordinary")(Ordinary)
    about = Description.from_about({**description().to_dict(), "network": {"kind": "nir_ordinary", "part": part}})
    network = about.build().eval()
    with torch.no_grad():
        for conv in (network.conv, network.grouped):
            conv.weight.mul_(3)
    return network, about


def test_parts_that_do_nothing_or_can_be_said_otherwise(tmp_path, forgotten):
    network, about = ordinary("")
    images = batch(about)
    path, agreement = export_network(network, about, images, "nir", tmp_path)
    assert agreement.agree == len(images)
    reference = TrainedNetwork(network, about)
    assert min(spikes.mean().item() for spikes in reference.spikes(images).values()) > 0.01
    frames = Prepare(about)(images).expand(about.time_steps, *images.shape)
    assert torch.allclose(mean_of_steps(to_spikingjelly(path, dt=DT), frames), reference.whole(images), atol=1e-5)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("groups", "no convolutions in groups whose sizes fit together, such as grouped; export to onnx"),
        ("twice", "spike2 takes that of grouped twice; export to onnx"),
        ("shared", "NIR has a node for each layer, and spike1 is called twice in a time step"),
        ("pool", "NIR has no adaptive pooling but to one pixel, and this is to 2; export to onnx"),
        ("sequence", "the network gives logits of every time step"),
    ],
)
def test_parts_that_cannot(part, message, tmp_path, forgotten):
    network, about = ordinary(part)
    with pytest.raises(ValueError, match=message):
        export_network(network, about, batch(about), "nir", tmp_path)
    assert export_network(network, about, batch(about), "onnx", tmp_path)[1].difference < 1e-5


def test_what_nir_has_no_words_for():
    about = description(neuron={"kind": "lif", "reset": "soft"})
    network = lively(about.build())
    with pytest.raises(ValueError, match=r"those of stem\.spike have a soft reset; export to onnx"):
        nir_graph(fold(network), about)
    odd = description(network={"kind": "vgg11"}, image_size=[12, 12])
    with pytest.raises(ValueError, match="NIR has no pooling that rounds up, which 3x3 pixels need"):
        nir_graph(fold(lively(odd.build())), odd)
    currents = description(network={"kind": "resnet18", "block": "ms", "stem": "large"})
    with pytest.raises(ValueError, match="NIR has no max pooling, and only that of spikes"):
        nir_graph(fold(lively(currents.build())), currents)
    network, about = family("qkformer")
    with pytest.raises(ValueError, match=r"NIR has no products of spikes with spikes, which layer1\.0\.attention comp"):
        nir_graph(fold(network), about)
