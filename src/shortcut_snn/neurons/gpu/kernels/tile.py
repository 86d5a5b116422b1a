"""Tiles of positions and channels, for kernels that sum over a channel.

A sequence in memory is ``[rows, channels, run]`` in both layouts: run is H * W in contiguous memory and 1 in
channels-last memory. A position is a row and an index in the run.
"""

import triton
import triton.language as tl


@triton.jit
def tile(number, channel, positions, channels, run, BLOCK_P: tl.constexpr):
    """Return the indices in memory of a tile ``[BLOCK_P, BLOCK_C]``, and which of them are valid."""
    # 64-bit: a sequence may have more elements than int32 can count.
    position = (tl.full([1], number, tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    at = (position // run * channels + channel[None, :]) * run + position % run
    return at, (position < positions) & (channel[None, :] < channels)
