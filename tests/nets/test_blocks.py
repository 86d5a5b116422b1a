"""The paper's block, and a convolution that works around a bug of oneDNN."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from shortcut_snn.nets.blocks import BasicBlock
from shortcut_snn.nets.layers import SpikePointwiseConv2d
from shortcut_snn.neurons import LIF

from .by_hand import assert_equal


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
