"""How a sequence ``[T, N, C, ...]`` lies in memory, and sequences that lie the same way."""

import math

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Say whether memory runs over T, N, space, C; ``[T, N, C]``, which is both, counts as contiguous."""
    return x.dim() > 3 and not x.is_contiguous() and x.movedim(2, -1).is_contiguous()


def to_layout(x: Tensor, channels_last: bool) -> Tensor:
    """Return ``x`` laid out this way; itself if it is already."""
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if channels_last else x.contiguous()


def empty_sequence(x: Tensor, time_steps: int, channels_last: bool) -> Tensor:
    """Return an uninitialised ``[time_steps, *x.shape[1:]]``, laid out this way."""
    if channels_last:
        n, c, *space = x.shape[1:]
        return torch.empty((time_steps, n, *space, c), dtype=x.dtype, device=x.device).movedim(-1, 2)
    return torch.empty((time_steps, *x.shape[1:]), dtype=x.dtype, device=x.device)


def run_length(x: Tensor, channels_last: bool) -> int:
    """Return how many elements that follow each other in memory share a channel."""
    return 1 if channels_last else math.prod(x.shape[3:])
