"""A user's network, neuron and export format, each registered in a file, are exported and loaded like built-in ones."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from shortcut_snn import attach, components
from shortcut_snn.deploy import Exporter, Inference, NetworkSpec, export_network, fold, load
from shortcut_snn.deploy.export import OneCall, network_logits
from shortcut_snn.deploy.onnx_export import ONNX
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.deploy.torch_export import TorchExport
from shortcut_snn.neurons import LIF

from .networks import batch, make_spec, small

pytestmark = pytest.mark.filterwarnings("ignore")


class UserNetwork(nn.Module):
    """Two layers over time, without a base class of this package."""

    def __init__(self, num_classes, image_size, make_neuron, *, width: int = 8, time_steps: int = 3):
        super().__init__()
        self.time_steps = time_steps
        self.first = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.norm, self.spike = nn.BatchNorm2d(width), make_neuron()
        self.last = nn.Linear(width * image_size[0] * image_size[1] // 4, num_classes)

    def forward(self, x):
        current = self.norm(self.first(x))
        return self.last(self.spike(current.expand(self.time_steps, *current.shape)).flatten(2).mean(0))


@dataclass(frozen=True)
class UserFormat(Exporter):
    """Weights of torch, with the classifier multiplied by a factor."""

    factor: float = 1.0

    file = "weights.pt"

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path):
        torch.save(network.state_dict(), path)
        network.load_state_dict(torch.load(path, weights_only=True))
        with torch.no_grad():
            network.last.weight.mul_(self.factor)
        return Inference(network, spec).logits


@pytest.fixture
def user(forgotten: None) -> tuple[nn.Module, NetworkSpec]:
    """A user's network that has batch statistics, and its specification; the user's format is registered too."""
    components.network("user_network")(UserNetwork)
    components.exporter("user_format")(UserFormat)
    spec = make_spec(network={"kind": "user_network", "width": 6, "time_steps": 3})
    network = spec.build()
    with torch.no_grad():
        network(torch.randn(64, 3, 16, 16) * 3)
    return network, spec


@pytest.mark.parametrize("to", ["safetensors", "onnx", "torch-export", "user_format"])
def test_a_users_network_is_exported(to, user, tmp_path):
    network, spec = user
    images = batch(spec, 8)
    path, agreement = export_network(network, spec, images, to, tmp_path)
    assert agreement.agree == 8
    assert network.training, "export does not change the network"
    if to == "safetensors":
        loaded = load(path)
        assert torch.allclose(loaded.logits(images), network_logits(network, spec, images), atol=1e-5)
        with pytest.raises(ValueError, match="SpikingNetwork"):
            loaded.step(images)


class Masked(UserNetwork):
    """Computes with tensors while it is built, and keeps some that no state holds."""

    def __init__(self, num_classes, image_size, make_neuron, *, width: int = 8, time_steps: int = 3):
        super().__init__(num_classes, image_size, make_neuron, width=width, time_steps=time_steps)
        self.shares = [share.item() for share in torch.linspace(0.5, 1, time_steps)]
        self.factor = torch.full((1,), 1.5)
        self.register_buffer("offset", torch.full((1,), 0.25), persistent=False)
        self.register_buffer("mask", torch.full((1, num_classes), -torch.inf))
        self.mask[0, :2] = 0

    def forward(self, x):
        return super().forward(x * self.factor * self.shares[0] + self.offset) + self.mask.exp()


def test_a_users_network_may_keep_tensors_of_its_own(user, tmp_path):
    components.network("masked")(Masked)
    spec = make_spec(network={"kind": "masked", "width": 6, "time_steps": 3})
    network = spec.build()
    images = batch(spec, 8)
    path, agreement = export_network(network, spec, images, "safetensors", tmp_path)
    assert agreement.agree == 8
    assert torch.allclose(load(path).logits(images), network_logits(network, spec, images), atol=1e-5)


def test_errors_name_what_a_users_network_lacks(user, tmp_path):
    network, spec = user
    with pytest.raises(ValueError, match="SpikingNetwork"):
        export_network(network, spec, batch(spec), "nir", tmp_path)
    with pytest.raises(ValueError, match="SpikingNetwork"):
        export_network(network, spec, batch(spec), ONNX(streaming=True), tmp_path)
    network.spike = nn.ReLU()
    with pytest.raises(ValueError, match="no neurons"):
        fold(network, spec.example())


class ThirdParty(nn.Module):
    """Two layers of SpikingJelly's neurons that loop over time themselves."""

    def __init__(self, num_classes, *, time_steps: int = 3):
        super().__init__()
        self.time_steps = time_steps
        self.layers = nn.Sequential(
            layer.Conv2d(3, 8, 3, 2, 1), layer.BatchNorm2d(8), neuron.LIFNode(), layer.Conv2d(8, 8, 3, 4, 1),
            neuron.IFNode(v_threshold=0.2), layer.Flatten(), layer.Linear(32, num_classes),
        )  # fmt: skip
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.layers(x.expand(self.time_steps, *x.shape))


def single_steps():
    """Return a network of snnTorch that computes one time step per call."""
    leaky = snntorch.Leaky(beta=0.8, init_hidden=True)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), leaky, nn.Flatten(), nn.Linear(128, 10))


@pytest.mark.parametrize(
    ("make", "loop", "to"), [(lambda: ThirdParty(10), "auto", TorchExport()), (single_steps, 3, ONNX())]
)
def test_a_third_party_network_is_exported(make, loop, to, tmp_path):
    spec = make_spec()
    images = batch(spec, 8)
    model = attach(make(), [], example=Prepare(spec)(images), loop=loop, readout="mean", log=len)
    for _ in range(2):
        model(Prepare(spec)(images))
    expected = network_logits(OneCall(model), spec, images)
    _, agreement = export_network(model, spec, images, to, tmp_path)
    assert agreement.agree == 8
    assert agreement.difference < 1e-5
    assert expected.std() > 0.01


def test_formats_that_cannot_hold_a_third_party_network_say_so(tmp_path):
    spec = make_spec()
    images = batch(spec)
    model = attach(single_steps(), [], example=Prepare(spec)(images), loop=3, readout="mean", log=len)
    for to in ("safetensors", "nir", ONNX(streaming=True), ONNX(int8=True)):
        with pytest.raises(ValueError, match="export to onnx or torch-export"):
            export_network(model, spec, images, to, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_users_format_is_checked_and_a_wrong_file_is_not_kept(user, tmp_path):
    network, spec = user
    with pytest.raises(ValueError, match="differs"):
        export_network(network, spec, batch(spec), UserFormat(factor=1.5), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"'tensorrt'.*safetensors"):
        export_network(network, spec, batch(spec), "tensorrt", tmp_path)


def test_nir_cannot_represent_a_users_neuron(tmp_path):
    class Half(LIF):
        def stream(self, current, initial=None):
            return super().stream(0.5 * current, initial)

    network, spec = small()
    network.stem.spike.neuron = Half()
    with pytest.raises(ValueError, match=r"Half neurons, as in stem\.spike"):
        export_network(network, spec, batch(spec), "nir", tmp_path)


def test_a_subclass_of_a_layer_is_not_folded(user):
    network, spec = user

    class Halved(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) / 2

    network.first = Halved(3, 6, 3, 2, 1)
    with pytest.raises(ValueError, match="batch norm norm cannot be folded"):
        fold(network, spec.example())
