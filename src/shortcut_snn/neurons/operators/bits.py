"""Pack spikes to one bit per element, to save them for the backward pass.

The bits of ``[T, ...]`` are bytes ``[T, row]``. A row holds the elements of a time step in the order of memory
(contiguous or channels-last). The first element is the lowest bit of the first byte, and zeros fill the last 64-bit
word.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..backend import implementation, kernels_run
from .layout import bit_row, empty, is_channels_last, to_layout


def pack(spikes: Tensor) -> Tensor:
    """Return spikes ``[T, N, ...]`` as bits."""
    spikes = to_layout(spikes, is_channels_last(spikes))
    if kernels_run(spikes):
        return implementation(spikes).pack(spikes)
    flat = _in_memory_order(spikes).ne(0).view(torch.uint8)
    flat = pad(flat, (0, 8 * bit_row(flat.shape[1]) - flat.shape[1]))
    weights = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=flat.device)
    return flat.view(flat.shape[0], -1, 8).mul(weights).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype) -> Tensor:
    """Return the spikes ``[T, N, ...]`` that bits stand for, in a memory layout."""
    out = empty(shape, channels_last, dtype, bits.device)
    if kernels_run(out):
        implementation(out).unpack(bits, out)
    else:
        flat = _in_memory_order(out)
        positions = torch.arange(8, dtype=torch.uint8, device=bits.device)
        ones = bits.unsqueeze(-1).bitwise_right_shift(positions).bitwise_and_(1).flatten(1)
        flat.copy_(ones[:, : flat.shape[1]])
    return out


def _in_memory_order(x: Tensor) -> Tensor:
    """Return a contiguous or channels-last tensor as ``[T, elements]`` in the order of memory."""
    return (x.movedim(2, -1) if is_channels_last(x) else x).flatten(1)
