"""What is not ours is exported and loaded alike: a network, a neuron and a format, each registered in a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from shortcut_snn import components
from shortcut_snn.deploy import Description, export_network, file_name, fold, load
from shortcut_snn.deploy.network_file import read_folded, write_folded
from shortcut_snn.deploy.torch_runtime import TorchRuntime, TrainedNetwork
from shortcut_snn.deploy.weights import save_network
from shortcut_snn.neurons import LIF

from .networks import batch, description, small


class Net(nn.Module):
    """Two layers over time, with no base class of ours."""

    def __init__(self, num_classes, image_size, make_neuron, *, width: int = 8, time_steps: int = 3):
        super().__init__()
        self.time_steps = time_steps
        self.first, self.between = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.Identity()
        self.norm, self.spike = nn.BatchNorm2d(width), make_neuron()
        self.last = nn.Linear(width * image_size[0] * image_size[1] // 4, num_classes)

    def forward(self, x):
        current = self.norm(self.between(self.first(x)))
        return self.last(self.spike(current.expand(self.time_steps, *current.shape)).flatten(2).mean(0))


@pytest.fixture
def known(forgotten: None) -> None:
    """A network and a format that are known for the length of a test."""
    components.network("of a stranger")(Net)

    @components.exporter("of a stranger")
    @dataclass(frozen=True)
    class Twice:
        file: ClassVar[str] = "twice.safetensors"
        streamed: ClassVar[str | None] = None
        says: ClassVar[str] = "weights"
        factor: float = 1.0

        def make(self, network: nn.Module, about: Description, path: Path, streaming: bool) -> TorchRuntime:
            with torch.no_grad():
                network.last.weight.mul_(self.factor)
            write_folded(network, about, path)
            return TorchRuntime(*read_folded(path))


@pytest.fixture
def made(known: None) -> tuple[nn.Module, Description]:
    """Their network, which has seen a batch."""
    about = description(network={"kind": "of a stranger", "width": 6, "time_steps": 3})
    network = about.build()
    with torch.no_grad():
        network(torch.randn(64, 3, 16, 16) * 3)
    return network, about


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("to", ["safetensors", "onnx", "torch-export", "of a stranger"])
def test_a_network_of_theirs(to, made, tmp_path):
    network, about = made
    images = batch(about, 8)
    path, agreement = export_network(network, about, images, to, tmp_path)
    assert agreement.agree == 8
    assert network.training, "it is left as it was"
    if path.suffix == ".safetensors":
        used = load(path)
        assert torch.allclose(used.logits(images), TrainedNetwork(network, about).whole(images), atol=1e-5)
        with pytest.raises(ValueError, match="Net runs whole sequences; to run it step by step, derive it from"):
            used.step(images)


def test_a_run_of_theirs_is_loaded(made, tmp_path):
    network, about = made
    save_network(network, tmp_path / "network.safetensors", about.to_dict())
    images = batch(about)
    assert torch.allclose(load(tmp_path).logits(images), TrainedNetwork(network, about).whole(images), atol=1e-5)


def test_what_their_network_cannot(made, tmp_path):
    network, about = made
    with pytest.raises(ValueError, match="NIR describes one time step, which Net does not say; export to onnx"):
        export_network(network, about, batch(about), "nir", tmp_path)
    with pytest.raises(ValueError, match="Net runs whole sequences"):
        export_network(network, about, batch(about), "onnx", tmp_path, streaming=True)
    network.spike = nn.ReLU()
    with pytest.raises(ValueError, match="Net has no neurons of this library"):
        fold(network, about.blank())


def test_a_format_of_theirs_is_checked_like_ours(made, tmp_path):
    exporter = components.read(components.exporter, {"kind": "of a stranger", "factor": 1.5}, "to")
    with pytest.raises(ValueError, match="all spikes are equal, so the classifier differs"):
        export_network(*made, batch(made[1]), exporter, tmp_path)
    with pytest.raises(ValueError, match="there is no of a stranger file of a single time step"):
        file_name(exporter, streaming=True)
    with pytest.raises(ValueError, match=r"unknown exporter 'tensorrt'.*safetensors"):
        export_network(*made, batch(made[1]), "tensorrt", tmp_path)


def test_a_neuron_of_theirs_has_no_word_in_nir(tmp_path):
    class Half(LIF):
        def stream(self, current, initial=None):
            return super().stream(0.5 * current, initial)

    network, about = small()
    network.stem.spike.neuron = Half()
    with pytest.raises(ValueError, match=r"NIR has no words for stem\.spike, a Half; export to onnx"):
        export_network(network, about, batch(about), "nir", tmp_path)


def test_what_only_looks_foldable(made):
    network, about = made

    class Halved(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) / 2

    network.first = Halved(3, 6, 3, 2, 1)
    with pytest.raises(ValueError, match="batch norm norm follows no layer that it can be folded into"):
        fold(network, about.blank())
    network.first = nn.Conv2d(3, 6, 3, 2, 1)
    network.between = nn.ReLU(inplace=True)
    with pytest.raises(ValueError, match="batch norm norm follows no layer"):
        fold(network, about.blank())
