"""Networks as files: what goes in comes out, and what is damaged is refused by name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shortcut_snn import nets
from shortcut_snn.deploy.weights import load_into, read_network, save_network


def test_round_trip(tmp_path):
    net = nets.spiking_resnet20(10, 2, width=4).to(memory_format=torch.channels_last)
    path = tmp_path / "network.safetensors"
    save_network(net, path, {"about": "this", "numbers": [1, 2.5]})
    state, about = read_network(path)
    assert about == {"about": "this", "numbers": [1, 2.5]}
    other = nets.spiking_resnet20(10, 2, width=4)
    load_into(other, state, path)
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(net.eval()(images), other.eval()(images))


def test_the_same_network_gives_the_same_bytes(tmp_path):
    net = nets.spiking_resnet20(10, 2, width=4)
    for number in range(8):
        save_network(net, tmp_path / str(number), {"one": 1, "two": 2})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no network file"):
        read_network(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 3, 8, 100, -1])
def test_truncated_file(tmp_path, keep):
    path = tmp_path / "network.safetensors"
    save_network(nn.Linear(3, 2), path, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"network\.safetensors is not a whole safetensors file"):
        read_network(path)


@given(st.binary(max_size=200))
def test_any_bytes_give_one_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        read_network(path)


def test_other_network_names_what_differs(tmp_path):
    state = nn.Linear(3, 2).state_dict()
    with pytest.raises(ValueError, match="of another shape: weight"):
        load_into(nn.Linear(4, 2), state, tmp_path)
    with pytest.raises(ValueError, match="not in the network: bias"):
        load_into(nn.Linear(3, 2, bias=False), state, tmp_path)
    with pytest.raises(ValueError, match="missing: bias"):
        load_into(nn.Linear(3, 2), {"weight": state["weight"]}, tmp_path)
