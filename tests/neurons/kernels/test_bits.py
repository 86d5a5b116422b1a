"""Spikes as bits: packing loses nothing, and the kernels write and read the same format."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shortcut_snn.neurons import LIF, ATan
from shortcut_snn.neurons.compiler.trace import traced
from shortcut_snn.neurons.operators.interface import Affine, Dynamics, Source
from shortcut_snn.neurons.packing import pack

from .test_norm_neuron import LAYOUTS, lay_out
from .under_test import MANY
from .under_test import module as kernels

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def spikes(*shape: int, layout: str = "contiguous", dtype: torch.dtype = torch.float32) -> Tensor:
    return lay_out((torch.rand(shape) > 0.6).to(dtype), layout)


def assert_packed(x: Tensor) -> None:
    """The first element in memory is the lowest bit of the first byte, and zeros fill the last word."""
    bits = pack(x)
    memory = x.as_strided((x.shape[0], x[0].numel()), (x[0].numel(), 1))
    ones = bits.unsqueeze(-1).bitwise_right_shift(torch.arange(8, dtype=torch.uint8)).bitwise_and(1).flatten(1)
    assert bits.shape == (x.shape[0], -(-memory.shape[1] // 64) * 8)
    assert torch.equal(ones[:, : memory.shape[1]].to(x.dtype), memory)
    assert not ones[:, memory.shape[1] :].any()
    back = torch.empty_like(memory)
    kernels.unpack(bits, back)
    assert torch.equal(back, memory)


@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 16, 64]),
    height=st.integers(1, 5),
    width=st.integers(1, 9),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(DTYPES),
)
def test_packing_is_lossless(
    seed: int, steps: int, channels: int, height: int, width: int, layout: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    assert_packed(spikes(steps, 2, channels, height, width, layout=layout, dtype=dtype))


def test_many_work_items_and_other_axes_are_packed() -> None:
    assert_packed(spikes(2, 3, MANY, 29, 31, layout="channels_last"))
    assert_packed(spikes(3, 5, 37))


@pytest.mark.parametrize(("dtype", "layout"), [(torch.float32, LAYOUTS[0]), (torch.bfloat16, LAYOUTS[1])])
def test_the_kernel_packs_spikes_and_reads_a_residual_from_bits(dtype: torch.dtype, layout: str) -> None:
    # 3 * 5 * 13 elements do not fill a tile; its padding must leave no spikes.
    shape = (3, 1, 3, 5, 13)
    x, residual = lay_out(torch.randn(shape), layout).to(dtype), spikes(*shape, layout=layout, dtype=dtype)
    grad = lay_out(torch.randn(shape), layout).to(dtype)
    mean, var = kernels.batch_statistics(x)
    affine = Affine(torch.rsqrt(var), torch.full((3,), 5.0) - mean, mean)
    step = traced(LIF(surrogate=ATan()))
    dynamics = Dynamics(step.text, step.constants)
    # Each combination is six kernels to compile.
    for norm in (affine, None) if dtype == torch.float32 else (affine,):
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
        assert results[0].x.any()
        assert torch.equal(results[0].x, results[1].x)
        if norm is not None:
            assert torch.equal(results[0].sums, results[1].sums)
