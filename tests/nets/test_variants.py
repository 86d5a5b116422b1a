"""Networks by name: depth, width, options in recipes, and refused options."""

from functools import partial

import pytest
import torch
from torch import nn

from shortcut_snn import components, nets
from shortcut_snn.components.entries import read, write
from shortcut_snn.components.help import option_help
from shortcut_snn.nets.blocks import Projection
from shortcut_snn.neurons import IF

from .helpers import RESNETS, by_name


@pytest.mark.parametrize("name", RESNETS)
def test_depth_is_that_of_the_name(name: str) -> None:
    network = by_name(name, 10, 2, width=2)
    projections = {id(module.conv) for module in network.modules() if isinstance(module, Projection)}
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sum(id(layer) not in projections for layer in layers) == int(name.removeprefix("resnet"))
    assert len(projections) == len(network.stage_names) - 1


@pytest.mark.parametrize(
    ("name", "make", "widths"),
    [
        ("resnet18", nets.spiking_resnet18, [64, 128, 256, 512]),
        ("resnet8", nets.spiking_resnet8, [16, 32, 64]),
        ("resnet19", nets.spiking_resnet19, [128, 256, 512]),
        ("resnet20", nets.spiking_resnet20, [16, 32, 64]),
        ("resnet34", nets.spiking_resnet34, [64, 128, 256, 512]),
        ("resnet110", nets.spiking_resnet110, [16, 32, 64]),
    ],
)
def test_widths_are_those_of_the_paper(name: str, make, widths: list[int]) -> None:
    with torch.device("meta"):
        network, built = make(100, 4), components.network.make(name).build(num_classes=100)
    assert [network.get_submodule(stage)[-1].conv2.out_channels for stage in network.stage_names] == widths
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in built.state_dict().items()}


def test_resnet19_ends_in_a_spiking_hidden_layer_of_256() -> None:
    with torch.device("meta"):
        network = nets.spiking_resnet19(10, 2)
    assert network.hidden.weight.shape == (256, 512)
    assert network.classifier.weight.shape == (10, 256)


def test_resnet18_has_as_many_weights_as_torchvision() -> None:
    with torch.device("meta"):
        network = nets.spiking_resnet18(100, 4)
    # torchvision's, with a 3x3 instead of a 7x7 stem and 100 instead of 1000 classes.
    expected = 11_689_512 - 64 * 3 * (49 - 9) - 513 * 900
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_recipes_list_the_options_of_a_network() -> None:
    read_network = partial(read, components.network, path="network")
    network = read_network({"kind": "resnet20", "width": 4, "block": "sew", "classifier_std": "1/inputs"})
    assert write(network) == {
        "kind": "resnet20", "time_steps": 4, "width": 4, "stem": "small", "block": "sew", "norm": "bn",
        "classifier_std": "1/inputs",
    }  # fmt: skip
    assert all(all(option_help(component).values()) for component in components.network.components.values())
    for entries, message in (
        ({"kind": "vgg11", "block": "sew"}, "network.block: network 'vgg11' has no entry 'block'"),
        ({"kind": "vgg11", "stem": "large"}, "network.stem: network 'vgg11' has no entry 'stem'"),
        ({"kind": "resnet18", "readout": "sequence"}, "network.readout: network 'resnet18' has no entry"),
        ({"kind": "resnet18", "width": 0}, "network.width .*greater than or equal to 1, got 0"),
        ({"kind": "resnet18", "norm": "ln"}, "network.norm .*'bn' or 'tdbn', got 'ln'"),
        ({"kind": "resnet50"}, "unknown network 'resnet50' .* available: resnet8, resnet18, resnet19, resnet20"),
    ):
        with pytest.raises(ValueError, match=message):
            read_network(entries)


def test_a_network_is_built_for_its_data() -> None:
    network, neuron = components.network.make("resnet20", width=4), components.neuron.make("if", threshold=0.5)
    data = {"classes": ["a", "b", "c"], "channels": 2, "image_size": [8, 8], "kind": "events", "time_steps": 7}
    built = nets.build_network(network, neuron, data)
    assert built(torch.rand(4, 2, 2, 8, 8)).shape == (2, 3)
    assert {module.threshold for module in built.modules() if isinstance(module, IF)} == {0.5}
    with pytest.raises(ValueError, match=r"network 'resnet20'.*num_classes"):
        nets.build_network(network, neuron, {"channels": 2})


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_classifier_std_sets_the_initial_weights(name: str) -> None:
    weights = {}
    for std in (None, "1/inputs", 0.3):
        torch.manual_seed(0)
        classifier = by_name(name, 100, width=8, classifier_std=std).classifier
        weights[std] = classifier.weight.detach(), classifier.bias.detach()
    inputs = classifier.in_features
    assert weights[None][0].abs().max() <= inputs**-0.5
    assert weights["1/inputs"][0].std().item() == pytest.approx(1 / inputs, rel=0.05)
    assert weights[0.3][0].std().item() == pytest.approx(0.3, rel=0.05)
    assert not weights["1/inputs"][1].any()
    for std in (0.0, -1.0, float("nan"), "small"):
        with pytest.raises(ValueError, match="classifier_std"):
            by_name(name, 10, width=2, classifier_std=std)
