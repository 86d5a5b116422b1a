"""Spikes as bits: compiled and plain packing agree, nothing is lost, and operators keep PyTorch's rules."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from shortcut_snn.neurons import LIF, traced, use_backend
from shortcut_snn.neurons.operators import spike_layers
from shortcut_snn.neurons.operators.bits import pack, unpack
from shortcut_snn.neurons.operators.interface import Affine, Dynamics, Source
from shortcut_snn.neurons.operators.layout import is_channels_last

from .test_norm_neuron import LAYOUTS, lay_out
from .under_test import MANY
from .under_test import module as kernels

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def spikes(*shape: int, layout: str = "contiguous", dtype: torch.dtype = torch.float32) -> Tensor:
    return lay_out((torch.rand(shape) > 0.6).to(dtype), layout)


@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 16, 64]),
    height=st.integers(1, 5),
    width=st.integers(1, 9),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(DTYPES),
)
def test_packing_is_lossless_and_equals_plain_pytorch(
    seed: int, steps: int, channels: int, height: int, width: int, layout: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    x = spikes(steps, 2, channels, height, width, layout=layout, dtype=dtype)
    bits = pack(x)
    back = unpack(bits, x.shape, is_channels_last(x), dtype)
    assert torch.equal(back, x)
    assert back.dtype == dtype
    assert is_channels_last(back) == is_channels_last(x)
    with use_backend("eager"):
        assert torch.equal(pack(x), bits)
        assert torch.equal(unpack(bits, x.shape, is_channels_last(x), dtype), x)


def test_many_work_items_and_other_axes_are_packed() -> None:
    for x in (spikes(2, 3, MANY, 29, 31, layout="channels_last"), spikes(3, 5, 37)):
        bits = pack(x)
        assert bits.dtype == torch.uint8
        assert bits.shape == (x.shape[0], -(-x[0].numel() // 64) * 8)
        assert torch.equal(unpack(bits, x.shape, is_channels_last(x), x.dtype), x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_packs_spikes_and_reads_a_residual_from_bits(dtype: torch.dtype, layout: str) -> None:
    # 3 * 5 * 13 elements do not fill a tile; its padding must leave no spikes.
    shape = (3, 1, 3, 5, 13)
    x, residual = lay_out(torch.randn(shape), layout).to(dtype), spikes(*shape, layout=layout, dtype=dtype)
    grad = lay_out(torch.randn(shape), layout).to(dtype)
    mean, var = kernels.batch_statistics(x)
    affine = Affine(torch.rsqrt(var), torch.full((3,), 5.0) - mean, mean)
    step = traced(LIF())
    dynamics = Dynamics(step.text, step.constants)
    for norm in (affine, None):
        plain = kernels.forward(Source(x, residual, None, norm), 3, dynamics, False, True)
        packed = kernels.forward(Source(x, None, pack(residual), norm), 3, dynamics, False, True)
        assert plain[0].float().mean() > 0
        assert torch.equal(plain[0], packed[0])
        assert torch.equal(plain[2], pack(plain[0]))
        assert torch.equal(plain[2], packed[2])
        results = [
            kernels.backward(grad, None, Source(x, *saved, norm), dynamics, True)
            for saved in ((residual, None), (None, pack(residual)))
        ]
        assert torch.equal(results[0].x, results[1].x)
        if norm is not None:
            assert torch.equal(results[0].sums, results[1].sums)


CONVS = [(3, 1, 1, 1, True), (3, 2, 1, 1, False), (1, 2, 0, 1, False), (1, 1, 0, 1, True), (3, 1, 2, 2, False)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "groups", "bias"), CONVS)
@pytest.mark.parametrize(("layout", "dtype"), [("contiguous", torch.float64), ("channels_last", torch.bfloat16)])
def test_gradients_of_a_convolution_are_bit_identical(
    layout: str, dtype: torch.dtype, kernel: int, stride: int, padding: int, groups: int, bias: bool
) -> None:
    x = spikes(3, 2, 16, 9, 10, layout=layout, dtype=dtype)
    weight = torch.randn(32, 16 // groups, kernel, kernel, dtype=dtype)
    if layout == "channels_last":
        weight = weight.to(memory_format=torch.channels_last)
    leaves = [x.flatten(0, 1), weight] + ([torch.randn(32, dtype=dtype)] if bias else [])
    results = []
    for packed in (False, True):
        inputs = [leaf.detach().requires_grad_() for leaf in leaves]
        b = inputs[2] if bias else None
        if packed:
            sizes = [stride] * 2, [padding] * 2, [1, 1]
            out = spike_layers.spike_conv2d(inputs[0], pack(x), inputs[1], b, *sizes, groups)
        else:
            out = F.conv2d(inputs[0], inputs[1], b, stride, padding, 1, groups)
        grad = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
        results.append([out, *torch.autograd.grad(out, inputs, grad)])
    for got, want in zip(*results, strict=True):
        assert torch.equal(got, want)
        assert got.stride() == want.stride()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_max_pooling_is_bit_identical(layout: str) -> None:
    x = spikes(3, 2, 5, 9, 10, layout=layout)
    results = []
    for packed in (False, True):
        flat = x.flatten(0, 1).requires_grad_()
        if packed:
            out = spike_layers.spike_max_pool2d(flat, pack(x), [3, 3], [2, 2], [1, 1], [1, 1], False)
        else:
            out = F.max_pool2d(flat, 3, 2, 1)
        results.append([out, *torch.autograd.grad(out, flat, torch.linspace(-1, 1, out.numel()).view_as(out))])
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(layout: str) -> None:
    x = spikes(3, 2, 8, 6, 7, layout=layout)
    flat, weight = x.flatten(0, 1), torch.randn(4, 8, 3, 3, requires_grad=True)
    torch.library.opcheck(spike_layers.pack_spikes, (x,))
    bias = torch.randn(4, requires_grad=True)
    arguments = (flat.requires_grad_(), pack(x.detach()), weight, bias, [2, 2], [1, 1], [1, 1], 1)
    torch.library.opcheck(spike_layers.spike_conv2d, arguments)
    arguments = (flat, pack(x.detach()), [3, 3], [2, 2], [1, 1], [1, 1], False)
    torch.library.opcheck(spike_layers.spike_max_pool2d, arguments)
