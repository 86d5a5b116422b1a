"""The memory layout of a sequence ``[T, N, C, ...]``: contiguous or channels-last."""

import math

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether memory has the order T, N, space, C; ``[T, N, C]``, which is both, counts as contiguous."""
    return x.dim() > 3 and not x.is_contiguous() and x.movedim(2, -1).is_contiguous()


def merge_time(x: Tensor) -> Tensor:
    """Return ``[T, N, ...]`` as ``[T * N, ...]``, for layers without an axis of time."""
    if x.shape[0] != 1:
        return x.flatten(0, 1)
    if x.shape[1] == 1 and is_channels_last(x):
        # A view of a single channels-last sample may keep a stride that PyTorch's batch norm takes for contiguous
        # memory; its gradient would be wrong.
        return x.movedim(2, -1).reshape(1, *x.shape[3:], x.shape[2]).movedim(-1, 1)
    return x.squeeze(0)


def to_layout(x: Tensor, channels_last: bool) -> Tensor:
    """Return ``x`` in a layout; without a copy if it has that layout."""
    if not channels_last:
        return x.contiguous()
    moved = x.movedim(2, -1)
    return x if moved.is_contiguous() else moved.contiguous().movedim(-1, 2)


def empty_sequence(x: Tensor, time_steps: int, channels_last: bool, dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialised ``[time_steps, *x.shape[1:]]`` in a layout, like x otherwise."""
    if channels_last:
        n, c, *space = x.shape[1:]
        return x.new_empty((time_steps, n, *space, c), dtype=dtype).movedim(-1, 2)
    return x.new_empty((time_steps, *x.shape[1:]), dtype=dtype)


def bit_row(elements: int) -> int:
    """Return the bytes that hold the bits of a time step: whole 64-bit words."""
    return -(-elements // 64) * 8


def run_length(x: Tensor, channels_last: bool) -> int:
    """Return how many consecutive elements in memory belong to one channel."""
    return 1 if channels_last else math.prod(x.shape[3:])


def first_of_channels(x: Tensor) -> Tensor:
    """Return the first value of each channel, ``[C]``, float32: near the mean if that is far from 0."""
    return x[0, 0].reshape(x.shape[2], -1)[:, 0].float().contiguous()
