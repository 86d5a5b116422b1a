"""Ordinary layers over a sequence ``[T, N, ...]``: time and batch are one batch to them."""

from collections.abc import Callable

from torch import Tensor, nn


def over_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a layer that knows no time to ``[T, N, ...]``."""
    flat = layer(x.flatten(0, 1))
    return flat.view(*x.shape[:2], *flat.shape[1:])


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias (a normalisation follows)."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
