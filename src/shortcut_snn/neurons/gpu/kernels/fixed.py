"""The functions that kernels call, and the kernels that do not depend on a neuron.

bfloat16 is passed as int16, torch's view of it. Its bits are the upper half of a float32's. Rounding is written out,
since Triton's interpreter rounds ties up and loses the carry into the exponent. :mod:`~shortcut_snn.neurons.packing`
documents the format of the bits of spikes.
"""

from typing import Any

import triton
import triton.language as tl


@triton.jit
def load(pointers, mask):
    """Return elements as float32; 0 where masked."""
    raw = tl.load(pointers, mask=mask, other=0)
    if pointers.dtype.element_ty == tl.int16:
        value = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        value = raw.to(tl.float32)
    return value


@triton.jit
def store(pointers, value, mask):
    """Store float32 numbers, rounded to nearest, ties to even."""
    if pointers.dtype.element_ty == tl.int16:
        bits = value.to(tl.int32, bitcast=True)
        # A NaN would overflow into another number, so it becomes a quiet NaN.
        rounded = tl.where(value == value, bits + 0x7FFF + ((bits >> 16) & 1), 0x7FC00000)
        tl.store(pointers, (rounded >> 16).to(tl.int16), mask=mask)
    else:
        tl.store(pointers, value.to(pointers.dtype.element_ty), mask=mask)


@triton.jit
def load_bits(bits, at, mask):
    """Return the spikes at indices of a time step from its bits."""
    return ((tl.load(bits + (at >> 3), mask=mask, other=0).to(tl.int32) >> (at & 7).to(tl.int32)) & 1).to(tl.float32)


@triton.jit
def tile(number, channel, positions, channels, run, BLOCK_P: tl.constexpr):
    """Return the indices in memory of a tile ``[BLOCK_P, BLOCK_C]``, and which of them are valid."""
    # 64-bit: a sequence may have more elements than int32 can count.
    position = (tl.full([1], number, tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    at = (position // run * channels + channel[None, :]) * run + position % run
    return at, (position < positions) & (channel[None, :] < channels)


@triton.jit
def number(condition):
    """Return 1 for true and 0 for false."""
    return condition.to(tl.float32)


@triton.jit
def negation(condition):
    """Return the logical negation."""
    return condition == 0


@triton.jit
def maximum(a, b):
    """Return the larger number; NaN if either is NaN."""
    return tl.where((a < b) | (b != b), b, a)


@triton.jit
def minimum(a, b):
    """Return the smaller number; NaN if either is NaN."""
    return tl.where((a > b) | (b != b), b, a)


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x):
    """Return tanh(x)."""
    e = tl.exp(-2.0 * tl.abs(x))
    t = (1.0 - e) / (1.0 + e)
    return tl.where(x >= 0.0, t, -t)


@triton.jit
def nearest(x):
    """Return the nearest integer, ties to even."""
    # The sum has no fractional bits.
    rounded = (x + 12582912.0) - 12582912.0
    return tl.where(tl.abs(x) < 4194304.0, rounded, x)


NAMES: dict[str, Any] = {
    "number": number, "negation": negation, "maximum": maximum, "minimum": minimum, "sigmoid": sigmoid, "tanh": tanh,
    "round": nearest,
}  # fmt: skip
FUNCTIONS = {op: f"tl.{op}" for op in ("where", "abs", "exp", "log", "sqrt", "floor")}
"""The operations that Triton has."""


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
    for tile_number in range(part, tiles, tl.num_programs(0)):
        at, inside = tile(tile_number, channel, positions, channels, run, BLOCK_P)
        value = tl.where(inside, load(x + at, inside) - origin, 0.0)
        total += value
        squares += value * value
    out = sums + part * 2 * channels + channel
    tl.store(out, tl.sum(total, axis=0), mask=valid)
    tl.store(out + channels, tl.sum(squares, axis=0), mask=valid)
