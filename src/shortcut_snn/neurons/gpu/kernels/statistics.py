"""Sum a sequence and its squares over all elements of each channel, for batch statistics.

The first value of a channel is subtracted from its elements, so that a mean far from 0 costs no precision.
"""

import triton
import triton.language as tl

from .elements import load
from .tile import tile


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
