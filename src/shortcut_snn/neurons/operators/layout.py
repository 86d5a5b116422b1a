"""How a sequence ``[T, N, C, ...]`` lies in memory, and sequences that lie the same way."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Say whether memory runs over T, N, space, C; ``[T, N, C]``, which is both, counts as contiguous."""
    return x.dim() > 3 and not x.is_contiguous() and x.movedim(2, -1).is_contiguous()


def merge_time(x: Tensor) -> Tensor:
    """Return ``[T, N, ...]`` as ``[T * N, ...]``, to layers that know no time.

    Flattening a single sample, channels-last, would leave a stride by which PyTorch's batch norm takes it for
    contiguous; its gradient would be wrong.
    """
    return x.squeeze(0) if x.shape[0] == 1 else x.flatten(0, 1)


def to_layout(x: Tensor, channels_last: bool) -> Tensor:
    """Return ``x`` laid out this way; itself if it is already."""
    if not channels_last:
        return x.contiguous()
    moved = x.movedim(2, -1)
    return x if moved.is_contiguous() else moved.contiguous().movedim(-1, 2)


def empty_sequence(x: Tensor, time_steps: int, channels_last: bool) -> Tensor:
    """Return an uninitialised ``[time_steps, *x.shape[1:]]``, laid out this way."""
    return empty((time_steps, *x.shape[1:]), channels_last, x.dtype, x.device)


def empty(shape: Sequence[int], channels_last: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised ``[T, N, C, ...]``, laid out this way."""
    if channels_last:
        t, n, c, *space = shape
        return torch.empty((t, n, *space, c), dtype=dtype, device=device).movedim(-1, 2)
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def bit_row(elements: int) -> int:
    """Return the bytes of a time step of so many elements as bits: whole words of 64."""
    return -(-elements // 64) * 8


def run_length(x: Tensor, channels_last: bool) -> int:
    """Return how many elements that follow each other in memory share a channel."""
    return 1 if channels_last else math.prod(x.shape[3:])


def first_of_channels(x: Tensor) -> Tensor:
    """Return the first value of each channel, ``[C]`` (float32): close to its mean where that is far from 0."""
    first = x[0, 0]
    while first.dim() > 1:
        first = first[..., 0]
    return first.float().contiguous()
