"""Network files: what is written is read back, and damage is refused by name."""

import pytest
import torch
from torch import nn

from shortcut_snn import nets
from shortcut_snn.deploy.safetensors_files import load_into, read_network, save_network


def test_a_network_is_read_back(tmp_path):
    network = nets.spiking_resnet20(10, 2, width=4).to(memory_format=torch.channels_last)
    path = tmp_path / "network.safetensors"
    save_network(network, path, {"about": "this", "numbers": [1, 2.5]})
    state, about = read_network(path)
    assert about == {"about": "this", "numbers": [1, 2.5]}
    other = nets.spiking_resnet20(10, 2, width=4)
    load_into(other, state, path)
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(network.eval()(images), other.eval()(images))


def test_the_same_network_is_written_as_the_same_bytes(tmp_path):
    network = nn.Linear(3, 2)
    for number in range(3):
        save_network(network, tmp_path / str(number), {"one": 1, "two": 2})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_differences_from_the_network_are_named(tmp_path):
    state = nn.Linear(3, 2).state_dict()
    with pytest.raises(ValueError, match="weight"):
        load_into(nn.Linear(4, 2), state, tmp_path)
    with pytest.raises(ValueError, match="bias"):
        load_into(nn.Linear(3, 2, bias=False), state, tmp_path)
    with pytest.raises(ValueError, match="bias"):
        load_into(nn.Linear(3, 2), {"weight": state["weight"]}, tmp_path)
