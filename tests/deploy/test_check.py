"""An export that differs is refused, the first layer that differs is named, and no file is left."""

import pytest
import torch

from shortcut_snn.deploy import export
from shortcut_snn.deploy.check import check, compare
from shortcut_snn.deploy.export import export_network
from shortcut_snn.deploy.folding import fold
from shortcut_snn.deploy.torch_runtime import TorchRuntime, TrainedNetwork

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


def test_a_wide_network_of_many_classes_is_exported():
    """Rounding flips spikes in it, and each of them is a tenth of the largest logit and more; no class clearly changes.

    What is truly wrong is found all the same, be it a factor of 1.02 in one of its layers.
    """
    about = description(
        network={"kind": "resnet18", "width": 48, "time_steps": 4}, classes=[str(i) for i in range(100)]
    )
    network, images = lively(about.build()), batch(about, 128)
    reference, folded = TrainedNetwork(network, about), fold(network)
    found = check(reference, TorchRuntime(folded, about), images)
    assert found.clear == 0
    assert found.agree >= 127
    assert found.typical < 1e-4 * found.largest
    for layer in ("stem.conv", "layer2.0.conv1", "layer4.1.conv2"):
        broken = fold(network)
        with torch.no_grad():
            broken.get_submodule(layer).weight.mul_(1.02)
        with pytest.raises(ValueError, match="the export differs"):
            check(reference, TorchRuntime(broken, about), images)


def logits(count: int = 256) -> torch.Tensor:
    """Logits whose first class wins clearly, but in the first three images, by 0.01."""
    made = torch.zeros(count, 5)
    made[:, 0] = 1.0
    made[:3, 1] = 0.99
    return made


def test_of_two_nearly_equal_classes_either_may_win():
    expected, got = logits(), logits()
    got[0, 1] += 0.04
    got[10, 2] += 0.3
    found = compare(expected, got)
    assert (found.images, found.agree, found.clear, found.holds) == (256, 255, 0, True)
    assert "255 of 256 predictions agree (1 are as close between two classes as rounding)" in str(found)
    assert found.difference == pytest.approx(0.3)


def test_more_than_a_percent_is_refused():
    expected, got = logits(), logits()
    got[:3, 1] += 0.04
    found = compare(expected, got)
    assert (found.agree, found.clear, found.holds) == (253, 0, False)
    assert not compare(expected[:50], torch.cat([got[:1], expected[1:50]])).holds, "one of 50 is 2 percent"


def test_a_class_that_clearly_loses_is_refused():
    expected, got = logits(), logits()
    got[10:40, 3] += 0.06
    got[50] = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    found = compare(expected, got)
    assert (found.agree, found.clear, found.holds) == (255, 1, False)


def test_all_images_a_little_off_is_refused():
    assert not compare(logits(), logits() * 1.06).holds
    assert not compare(logits(), logits().fill_(torch.nan)).holds
