"""Kernels that do not depend on a neuron: bits of spikes, the gradient of a norm's input, and batch statistics.

:mod:`~shortcut_snn.neurons.packing` documents the format of the bits.
"""

import triton
import triton.language as tl

from .elements import load, load_bits, store, tile


@triton.jit
def pack_kernel(spikes, bits, elements, bits_step, BYTES: tl.constexpr):
    """Write the bits of spikes; the grid is ``[parts of a time step, time steps]``."""
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    step = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, 8)[None, :]
    at = byte[:, None] * 8 + lane
    fired = load(spikes + step * elements + at, at < elements) != 0.0
    packed = tl.sum(fired.to(tl.int32) << lane, axis=1)
    tl.store(bits + step * bits_step + byte, packed.to(tl.uint8), mask=byte < bits_step)


@triton.jit
def unpack_kernel(bits, spikes, elements, bits_step, BLOCK: tl.constexpr):
    """Write the spikes of bits; the grid is ``[parts of a time step, time steps]``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    step = tl.program_id(1).to(tl.int64)
    inside = at < elements
    store(spikes + step * elements + at, load_bits(bits + step * bits_step, at, inside), inside)


@triton.jit
def input_grad_kernel(grad, x, out, a, b, c, elements, run, channels, BLOCK: tl.constexpr):
    """Write out, which may be grad, from grad and x (all time steps as one) and a, b, c ``[C]`` (float32)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < elements
    channel = at // run % channels
    value = tl.load(a + channel, mask=inside, other=0.0) * load(grad + at, inside)
    value += tl.load(b + channel, mask=inside, other=0.0) * load(x + at, inside)
    store(out + at, value + tl.load(c + channel, mask=inside, other=0.0), inside)


@triton.jit
def statistics_kernel(x, sums, positions, tiles, run, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Write sums ``[parts, 2, C]`` (float32) from x, all time steps as one."""
    part = tl.program_id(0)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    valid = channel < channels
    origin = load(x + channel.to(tl.int64) * run, valid)[None, :]
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    squares = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for number in range(part, tiles, tl.num_programs(0)):
        at, inside = tile(number, channel, positions, channels, run, BLOCK_P)
        value = tl.where(inside, load(x + at, inside) - origin, 0.0)
        total += value
        squares += value * value
    out = sums + part * 2 * channels + channel
    tl.store(out, tl.sum(total, axis=0), mask=valid)
    tl.store(out + channels, tl.sum(squares, axis=0), mask=valid)
