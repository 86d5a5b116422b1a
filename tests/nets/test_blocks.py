"""Blocks against their papers' formulas in plain torch operations and SpikingJelly, and their strided convolution."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.nets.blocks import BasicBlock, MSBlock, SEWBlock
from shortcut_snn.nets.layers import SpikePointwiseConv2d
from shortcut_snn.neurons import LIF, ATan, Neuron, NormNeuron

from .by_hand import assert_equal, conv, normalised, randomise, spike

ATAN = partial(LIF, 0.5, surrogate=ATan())


def basic_by_hand(block: BasicBlock, x: Tensor, stride: int) -> Tensor:
    """``o = spike(norm(conv(spike(norm(conv(x))))) + x)``, or ``+ norm(conv(x))`` where x changes its shape."""
    hidden = spike(normalised(block.spike1.norm, conv(block.conv1, x, stride)))
    current = normalised(block.spike2.norm, conv(block.conv2, hidden))
    if isinstance(block.project, nn.Identity):
        return spike(current + x)
    return spike(current + normalised(block.project.norm, conv(block.project.conv, x, stride, 0)))


def sew_by_hand(block: SEWBlock, x: Tensor, stride: int) -> Tensor:
    """``o = spike(norm(conv(spike(norm(conv(x)))))) + x``, or ``+ spike(norm(conv(x)))`` where x changes its shape."""
    hidden = spike(normalised(block.spike1.norm, conv(block.conv1, x, stride)))
    spikes = spike(normalised(block.spike2.norm, conv(block.conv2, hidden)))
    if isinstance(block.project, nn.Identity):
        return spikes + x
    return spikes + spike(normalised(block.project.spike.norm, conv(block.project.conv, x, stride, 0)))


def ms_by_hand(block: MSBlock, x: Tensor, stride: int) -> Tensor:
    """``o = norm(conv(spike(norm(conv(spike(x)))))) + x``, or ``+ norm(conv(x))`` where x changes its shape."""
    hidden = spike(normalised(block.spike2.norm, conv(block.conv1, spike(x), stride)))
    current = normalised(block.norm2, conv(block.conv2, hidden))
    if isinstance(block.project, nn.Identity):
        return current + x
    return current + normalised(block.project.norm, conv(block.project.conv, x, stride, 0))


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2), (4, 8, 1)])
@pytest.mark.parametrize(
    ("kind", "by_hand"), [(BasicBlock, basic_by_hand), (SEWBlock, sew_by_hand), (MSBlock, ms_by_hand)]
)
def test_values_and_gradients_equal_the_formula(kind, by_hand, inputs: int, outputs: int, stride: int) -> None:
    block = kind(inputs, outputs, stride, ATAN).double()
    randomise(block)
    shape = (4, 3, inputs, 6, 6)
    x = torch.randn(shape).double() if kind is MSBlock else torch.randint(0, 2, shape).double()
    x.requires_grad_()
    out, expected = block(x), by_hand(block, x, stride)
    assert out.shape == (4, 3, outputs, 6 // stride, 6 // stride)
    assert_equal(out, expected, [x, *block.parameters()])


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_sew_equals_spikingjelly(inputs: int, outputs: int, stride: int) -> None:
    ours = SEWBlock(inputs, outputs, stride, ATAN)
    randomise(ours)
    down = None
    if stride > 1:
        down = nn.Sequential(layer.Conv2d(inputs, outputs, 1, stride, bias=False), layer.BatchNorm2d(outputs))
    theirs = sew_resnet.BasicBlock(
        inputs, outputs, stride, down, cnf="ADD", spiking_neuron=neuron.LIFNode, tau=2.0, decay_input=False,
        v_reset=0.0, surrogate_function=surrogate.ATan(),
    )  # fmt: skip
    functional.set_step_mode(theirs, "m")
    names = {"conv1": "conv1", "spike1.norm": "bn1", "conv2": "conv2", "spike2.norm": "bn2"}
    names |= {"project.conv": "downsample.0", "project.spike.norm": "downsample.1"} if stride > 1 else {}
    for name, other in names.items():
        theirs.get_submodule(other).load_state_dict(ours.get_submodule(name).state_dict())
    x = torch.randint(0, 3, (4, 3, inputs, 6, 6)).float()
    assert torch.equal(ours(x), theirs(x))


def outputs_of(network: nets.SpikingNetwork, modules: list[str], x: Tensor) -> dict[str, Tensor]:
    """Return the outputs of named modules in a pass."""
    outputs: dict[str, Tensor] = {}
    for name in modules:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.__setitem__(name, output.detach())
        )
    network(x)
    return outputs


def test_outputs_of_stages() -> None:
    """Spikes for basic blocks, small integers for SEW, real values for MS."""
    images = torch.rand(4, 3, 8, 8)
    # Three SEW blocks add up: to 1 + 3 after the stem, to 2 + 1 + 1 after a block with a projection.
    for block, highest in (("basic", 1), ("sew", 4)):
        network = nets.spiking_resnet20(3, 3, width=4, block=block)
        for name, out in outputs_of(network, network.stage_names, images).items():
            assert torch.equal(out, out.round()), name
            assert 0 <= out.min() < out.max() <= highest, name
    network = nets.spiking_resnet20(3, 3, width=4, block="ms")
    for name, out in outputs_of(network, network.stage_names, images).items():
        assert not torch.equal(out, out.round()), name
        assert out.min() < 0 < out.max(), name


def test_sew_counts_grow_by_at_most_one_per_block() -> None:
    block = SEWBlock(2, 2, 1, LIF)
    nn.init.constant_(block.spike2.norm.bias, 9.0)
    assert torch.equal(block(torch.full((2, 2, 2, 4, 4), 2.0)), torch.full((2, 2, 2, 4, 4), 3.0))


def test_an_ms_network_ends_with_a_neuron() -> None:
    network = nets.spiking_resnet18(3, 3, width=4, block="ms")
    spikes = outputs_of(network, ["last_spike"], torch.rand(2, 3, 8, 8))["last_spike"]
    assert torch.equal(spikes, spikes.bool().float())
    assert not [module for module in network.stem.modules() if isinstance(module, Neuron | NormNeuron)]
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    assert len(neurons) == 17


def test_gradients_pass_an_ms_skip_connection_undamped() -> None:
    block = MSBlock(2, 2, 1, LIF)
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(3, 1, 2, 4, 4, requires_grad=True)
    block(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_the_residual_is_added_before_the_neuron() -> None:
    # Where f(x) is 0, the skip connection must reach the threshold: spikes of 1 do not exceed it.
    block = BasicBlock(2, 2, 1, LIF)
    block.spike2.norm.weight.data.zero_()
    x = torch.ones(3, 1, 2, 4, 4)
    # u_pre: 1 (a tie, silent), 0.5 + 1 (fires, reset), 1 (a tie).
    assert block(x).mean((1, 2, 3, 4)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("channels", "size"), [(4, 7), (16, 8)])
def test_a_strided_pointwise_convolution_equals_torch(channels: int, size: int) -> None:
    layer = SpikePointwiseConv2d(channels, 6, 2).double()
    x = torch.rand(3, channels, size, size, dtype=torch.float64, requires_grad=True)
    assert_equal(layer(x), F.conv2d(x, layer.weight, stride=2), [x, layer.weight])


def test_few_channels_do_not_corrupt_the_heap() -> None:
    """oneDNN corrupts it with large images and few channels-last channels, which glibc detects with these variables."""
    code = """
import torch
from shortcut_snn.nets.layers import SpikePointwiseConv2d
torch.set_num_threads(1)
for _ in range(8):
    layer = SpikePointwiseConv2d(4, 8, 2).to(memory_format=torch.channels_last)
    x = torch.rand(2, 4, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer(x).sum().backward()
"""
    checked = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "7"}
    process = subprocess.run([sys.executable, "-c", code], env=checked, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
