"""Tiles of positions and channels, for what sums over a channel.

A sequence in memory is ``[rows, channels, run]`` in both layouts: run is H * W in contiguous memory and 1 in
channels-last memory. A position stands for a row and a place in the run.
"""

import triton
import triton.language as tl


@triton.jit
def tile(number, channel, positions, channels, run, BLOCK_P: tl.constexpr):
    """Return where the elements ``[BLOCK_P, BLOCK_C]`` of a tile lie, and which of them there are."""
    # 64 bits: a sequence may have more elements than 32 can count.
    position = (tl.full([1], number, tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    at = (position // run * channels + channel[None, :]) * run + position % run
    return at, (position < positions) & (channel[None, :] < channels)
