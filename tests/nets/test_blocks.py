"""The residual block against the paper's formula, written in plain torch operations."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from shortcut_snn.nets.blocks import BasicBlock
from shortcut_snn.nets.layers import SpikePointwiseConv2d
from shortcut_snn.neurons import LIF, ATan

from ..neurons.reference import unrolled


def by_hand(block: BasicBlock, x: Tensor, stride: int, reset: str) -> Tensor:
    """``o = spike(f(x) + x)`` with ``f = norm(conv(spike(norm(conv(x)))))``; norms see time and batch as one."""

    def normalised(conv, norm, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        flat = F.conv2d(x.reshape(-1, *x.shape[2:]), conv.weight, None, stride, padding)
        mean, var = flat.mean((0, 2, 3), keepdim=True), flat.var((0, 2, 3), correction=0, keepdim=True)
        flat = (flat - mean) / (var + norm.eps).sqrt()
        flat = flat * norm.weight[:, None, None] + norm.bias[:, None, None]
        return flat.reshape(x.shape[0], x.shape[1], *flat.shape[1:])

    def spike(current: Tensor) -> Tensor:
        return unrolled(current, 0.5, 1.0, ATan(), reset, False)[0]

    hidden = spike(normalised(block.conv1, block.spike1.norm, x, stride))
    skip = x if stride == 1 else normalised(block.project.conv, block.project.norm, x, stride, 0)
    return spike(normalised(block.conv2, block.spike2.norm, hidden) + skip)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_values_and_gradients_equal_the_formula(inputs: int, outputs: int, stride: int, reset: str) -> None:
    block = BasicBlock(inputs, outputs, stride, partial(LIF, 0.5, surrogate=ATan(), reset=reset)).double()
    for norm in (block.spike1.norm, block.spike2.norm):
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.uniform_(-0.5, 0.5)
    x = (torch.rand(4, 3, inputs, 6, 6, dtype=torch.float64) < 0.4).double().requires_grad_()
    spikes, expected = block(x), by_hand(block, x, stride, reset)
    assert spikes.shape == (4, 3, outputs, 6 // stride, 6 // stride)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(spikes, expected)
    weight = torch.randn_like(spikes)
    wanted = [x, *block.parameters()]
    gradients = torch.autograd.grad((spikes * weight).sum(), wanted)
    references = torch.autograd.grad((expected * weight).sum(), wanted)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-6, atol=1e-9)


def test_the_residual_is_added_before_the_neuron() -> None:
    # Where f(x) is 0, the skip connection must reach the threshold: spikes of 1 do not exceed it.
    block = BasicBlock(2, 2, 1, LIF)
    block.spike2.norm.weight.data.zero_()
    x = torch.ones(3, 1, 2, 4, 4)
    # u_pre: 1 (a tie, silent), 0.5 + 1 (fires, reset), 1 (a tie).
    assert block(x).mean((1, 2, 3, 4)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 8, 1), (4, 4, 2), (4, 8, 2)])
def test_a_residual_of_another_shape_is_projected(inputs: int, outputs: int, stride: int) -> None:
    block = BasicBlock(inputs, outputs, stride, LIF)
    assert block.project.conv.weight.shape == (outputs, inputs, 1, 1)
    assert block(torch.ones(2, 3, inputs, 5, 5)).shape == (2, 3, outputs, -(-5 // stride), -(-5 // stride))


def test_a_residual_of_the_same_shape_has_no_weights() -> None:
    assert not list(BasicBlock(4, 4, 1, LIF).project.parameters())


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (4, 7), (15, 7), (16, 8)])
def test_a_strided_pointwise_convolution_equals_torch(channels: int, size: int) -> None:
    layer = SpikePointwiseConv2d(channels, 6, 2).double()
    x = torch.rand(3, channels, size, size, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), F.conv2d(x, layer.weight, stride=2)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    wanted = [x, layer.weight]
    for mine, reference in zip(
        torch.autograd.grad((out * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference)


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
    done = subprocess.run([sys.executable, "-c", code], env=checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
