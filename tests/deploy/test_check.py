"""An export that differs is refused, the first layer that differs is named, and no file is left."""

import numpy as np
import pytest
import torch

from shortcut_snn.data import Digits
from shortcut_snn.deploy import export, load
from shortcut_snn.deploy.check import check, compare, in_another_order, whole
from shortcut_snn.deploy.export import export_network
from shortcut_snn.deploy.folding import fold
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.deploy.torch_runtime import TorchRuntime, TrainedNetwork
from shortcut_snn.neurons import LIF

from .networks import batch, description, family, lively, small


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
    monkeypatch.setattr(export, "fold", lambda network, example: spoilt(network, "layer1.0.conv2"))
    with pytest.raises(ValueError, match=r"predictions agree.*first layer that differs is layer1\.0\.spike2: "):
        export_network(network, about, batch(about), to, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wide_and_deep_network_of_many_classes_is_exported():
    """Rounding moves several images by a third of the largest logit, and two predictions; a wrong export moves most."""
    torch.manual_seed(0)
    about = description(
        network={"kind": "resnet34", "width": 48, "time_steps": 4}, classes=[str(i) for i in range(100)]
    )
    network, images = lively(about.build()), batch(about, 64)
    reference = TrainedNetwork(network, about)
    expected, own = whole(reference, images), whole(in_another_order(reference), images)
    rounded = compare(expected, whole(TorchRuntime(fold(network), about), images), own)
    assert rounded.holds, rounded
    for layer in ("stem.conv", "layer4.1.conv2"):
        broken = fold(network)
        with torch.no_grad():
            broken.get_submodule(layer).weight.mul_(1.001)
        assert not compare(expected, whole(TorchRuntime(broken, about), images), own).holds, layer


def scaled(network):
    network.get_submodule("layer3.0.conv1").weight.mul_(1.01)


def without_a_bias(network):
    network.get_submodule("layer2.0.conv2").bias.zero_()


def without_the_last_bias(network):
    network.classifier.bias.zero_()


def another_threshold(network):
    network.get_submodule("layer1.0.spike1").neuron.threshold *= 1.01


def soft_reset(network):
    for module in network.modules():
        if isinstance(module, LIF):
            module.reset = "soft"


def swapped(network):
    network.classifier.weight.copy_(network.classifier.weight.roll(1, 0))
    network.classifier.bias.copy_(network.classifier.bias.roll(1, 0))


@pytest.fixture(scope="module")
def digits():
    """A trained network, what it is, and test images of it with their labels."""
    network, test = load("digits-resnet18", TRAINED), Digits().load().test
    return network.runtime.network, network.about, test.fetch(np.arange(64)), test.labels[:64]


def test_a_trained_network_in_another_order_is_accepted(digits):
    network, about, images, labels = digits
    found = check(TrainedNetwork(network, about), TorchRuntime(fold(network), about), images, labels)
    assert (found.agree, found.lost) == (64, 0)


@pytest.mark.parametrize(
    "spoil", [scaled, without_a_bias, without_the_last_bias, another_threshold, soft_reset, swapped]
)
def test_a_wrong_export_of_a_trained_network_is_refused(digits, spoil):
    network, about, images, labels = digits
    wrong = fold(network)
    with torch.no_grad():
        spoil(wrong)
    with pytest.raises(ValueError, match="the export differs"):
        check(TrainedNetwork(network, about), TorchRuntime(wrong, about), images, labels)


def logits(count: int = 256) -> torch.Tensor:
    """Logits whose first class wins by 0.01."""
    made = torch.zeros(count, 5)
    made[:, :2] = torch.tensor([1.0, 0.99])
    return made


def moved(count: int, by: float = 0.04) -> torch.Tensor:
    """The same, the second class ahead in some."""
    made = logits()
    made[:count, 1] += by
    return made


def test_an_export_may_move_about_as_many_images_as_torch_itself():
    assert compare(logits(), moved(8)).holds, "by chance"
    assert not compare(logits(), moved(9)).holds
    found = compare(logits(), moved(60), moved(25))
    assert (found.images, found.agree, found.moved, found.own, found.holds) == (256, 196, 60, (231, 25), True)
    assert "196 of 256 predictions agree; the logits of 60 images differ by more than rounding, where torch" in str(
        found
    )
    assert not compare(logits(), moved(100), moved(25)).holds
    assert not compare(logits(), moved(256, 0.005), moved(25)).holds, "all are moved"
    assert not compare(logits()[:1], moved(1)[:1]).holds


def test_where_rounding_moves_all_images_predictions_decide():
    own = moved(256, 0.005)
    assert compare(logits(), moved(256, 0.006), own).holds
    assert not compare(logits(), moved(256), own).holds


def test_accuracy_may_not_fall():
    own, labels = moved(100), torch.zeros(256, dtype=torch.long)
    assert not compare(logits(), moved(60), own, labels).holds
    labels[:30] = 1
    found = compare(logits(), moved(60), own, labels)
    assert (found.lost, found.holds) == (0, True)


def test_all_images_a_little_off_is_refused():
    assert not compare(logits(), logits() * 1.001).holds
    assert not compare(logits(), logits().fill_(torch.nan)).holds
