"""An export that differs is refused, the first layer that differs is named, and no file is left."""

import pytest
import torch

from shortcut_snn.deploy import export
from shortcut_snn.deploy.check import check
from shortcut_snn.deploy.export import export_network
from shortcut_snn.deploy.fold import fold
from shortcut_snn.deploy.torch_runtime import TorchRuntime, TrainedNetwork

from .networks import batch, family, small


def spoilt(network, layer):
    """A folded network with one layer's weights the other way round."""
    folded = fold(network)
    with torch.no_grad():
        folded.get_submodule(layer).weight.neg_()
    return folded


@pytest.mark.parametrize(
    ("layer", "named"),
    [("stem.conv", "stem.spike"), ("layer2.0.conv1", "layer2.0.spike1"), ("layer3.0.project.conv", "layer3.0.spike2")],
)
def test_the_first_layer_that_differs_is_named(layer, named):
    network, about = family("basic")
    runtime = TorchRuntime(spoilt(network, layer), about)
    with pytest.raises(ValueError, match=rf"the first layer that differs is {named}: [\d,]+ of [\d,]+ spikes"):
        check(TrainedNetwork(network, about), runtime, batch(about))


def test_a_classifier_that_differs():
    network, about = family("basic")
    runtime = TorchRuntime(spoilt(network, "classifier"), about)
    with pytest.raises(ValueError, match="all spikes are equal, so the classifier differs"):
        check(TrainedNetwork(network, about), runtime, batch(about))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("to", ["safetensors", "nir", "onnx", "torch-export"])
def test_what_differs_is_refused_and_leaves_nothing(to, tmp_path, monkeypatch):
    network, about = small() if to in ("onnx", "torch-export") else family("basic")
    monkeypatch.setattr(export, "fold", lambda network: spoilt(network, "layer1.0.conv2"))
    with pytest.raises(ValueError, match=r"predictions agree.*first layer that differs is layer1\.0\.spike2: "):
        export_network(network, about, batch(about), to, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
