"""Spikes as bits: one bit for each element instead of a number, to be kept for the backward pass.

Bits of ``[T, ...]`` are bytes ``[T, row]``: a time step's elements in the order of memory (contiguous or
channels-last), the first in a byte's lowest bit, and zeros up to a whole word of 64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..backend import implementation, kernels_run
from .layout import bit_row, empty, is_channels_last, to_layout


def pack(spikes: Tensor) -> Tensor:
    """Return zeros and ones ``[T, N, ...]`` as bits."""
    spikes = to_layout(spikes, is_channels_last(spikes))
    if kernels_run(spikes):
        return implementation(spikes).pack(spikes)
    flat = _in_memory(spikes).ne(0).view(torch.uint8)
    flat = pad(flat, (0, 8 * bit_row(flat.shape[1]) - flat.shape[1]))
    digits = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=flat.device)
    return flat.view(flat.shape[0], -1, 8).mul(digits).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype) -> Tensor:
    """Return the zeros and ones ``[T, N, ...]`` that bits stand for, laid out this way."""
    out = empty(shape, channels_last, dtype, bits.device)
    if kernels_run(out):
        implementation(out).unpack(bits, out)
    else:
        flat = _in_memory(out)
        places = torch.arange(8, dtype=torch.uint8, device=bits.device)
        ones = bits.unsqueeze(-1).bitwise_right_shift(places).bitwise_and_(1).flatten(1)
        flat.copy_(ones[:, : flat.shape[1]])
    return out


def _in_memory(x: Tensor) -> Tensor:
    """Return ``[T, elements]`` in the order of memory, of a tensor laid out in one of the two ways."""
    return (x.movedim(2, -1) if is_channels_last(x) else x).flatten(1)
