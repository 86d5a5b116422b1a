"""Where branches go: by placement and by name."""

import pytest
from torch import nn
from torchvision.models import resnet18

from shortcut_snn import nets
from shortcut_snn.method import every_block, stage_ends
from shortcut_snn.method.placement import resolve

from .toys import Staged, small
from .wrapped import wrapped

DEPTHS = {"resnet18": [2, 2, 2, 2], "resnet19": [3, 3, 2], "resnet20": [3, 3, 3], "resnet34": [3, 4, 6, 3]}


@pytest.mark.parametrize("name", DEPTHS)
def test_placements_in_our_networks(name: str) -> None:
    network, depths = small(name, width=1), DEPTHS[name]
    assert resolve(network, "stages") == stage_ends(network) == [f"layer{i}" for i in range(1, len(depths))]
    blocks = [f"layer{i}.{b}" for i, depth in enumerate(depths, 1) for b in range(depth)]
    assert resolve(network, "blocks") == every_block(network) == blocks[:-1]


def test_placements_in_a_network_from_elsewhere() -> None:
    network = resnet18()
    assert stage_ends(network) == ["layer1", "layer2", "layer3"]
    assert every_block(network) == [f"layer{i}.{b}" for i in range(1, 5) for b in range(2)][:-1]


@pytest.mark.parametrize(
    "names", [["stage1", "stage2"], ["stage_1", "stage_2"], ["layer_0", "layer_1"], ["block", "stages"]]
)
def test_stages_under_the_names_that_are_in_use(names: list[str]) -> None:
    network = nn.Module()
    for name in names:
        network.add_module(name, nn.Sequential(nn.Identity(), nn.Identity()))
    expected = ["stages.0"] if "stages" in names else names[:1]
    assert stage_ends(network) == expected


def test_a_stage_inside_a_stage_is_none_of_the_networks() -> None:
    network = nn.Module()
    network.layer1, network.layer2 = nn.Module(), nn.Module()
    network.layer1.layer1 = nn.Identity()
    assert stage_ends(network) == ["layer1"]


def test_an_unknown_name_lists_those_there_are_and_suggests() -> None:
    with pytest.raises(
        ValueError, match=r"no submodule 'layr2' in Staged \(did you mean layer2\?\); there are"
    ) as raised:
        resolve(Staged(), ["layer1", "layr2"])
    for name, _ in Staged().named_modules():
        assert name in str(raised.value)


@pytest.mark.parametrize("placement", ["stages", "blocks"])
def test_a_network_without_stages_asks_for_names(placement: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    with pytest.raises(ValueError, match=r"Sequential has no submodules named layer1.*among: 0, 1"):
        wrapped(network, placement, num_classes=2, example=None)


def test_a_network_of_one_stage_has_blocks() -> None:
    network = nets.SpikingResNet([3], 5, 2, width=4)
    assert [tap.name for tap in network.layout("blocks").taps] == ["layer1.0", "layer1.1"]
    with pytest.raises(ValueError, match="has one stage, layer1: place taps at 'blocks'"):
        network.layout("stages")


def test_blocks_are_numbered_siblings_with_weights() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    parts = nn.Sequential(block(), nn.Dropout(0.2), block(), nn.Dropout(0.2), block())
    assert every_block(nn.ModuleDict({"layers": parts})) == ["layers.0", "layers.2"]
    # The parts of an encoder's layer have names, and are no blocks.
    encoder = [nn.ModuleDict({"attention": block(), "intermediate": block()}) for _ in range(3)]
    assert every_block(nn.ModuleDict({"layer": nn.ModuleList(encoder)})) == ["layer.0", "layer.1"]
