"""A batch, and others like it: of other values, or of another number of samples."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..method import primary


def alter(example: Any, axis: int, number: int | None, seed: int = 1, wide: bool = False) -> Any:
    """Return a batch with other values in one of its samples, or in all of them: of the same range, or wider ones.

    Example:
        >>> from shortcut_snn.introspection.changes import changes
        >>> changes(torch.rand(3, 2), alter(torch.rand(3, 2), 0, None))
        [{0, 1, 2}, {0, 1}]
    """
    length = primary(example).shape[axis]
    generator = torch.Generator().manual_seed(seed)

    def change(tensor: Tensor) -> Tensor:
        if tensor.dim() <= axis or tensor.shape[axis] != length or not tensor.numel():
            return tensor
        other = _other(tensor, generator, wide)
        if number is not None:
            mine = torch.arange(length, device=tensor.device) == number
            other = torch.where(mine.view(-1, *[1] * (tensor.dim() - axis - 1)), other, tensor)
        return other

    return tree_map_only(Tensor, change, example)


def resized(example: Any, axis: int, samples: int) -> Any:
    """Return a batch with another number of samples: the first ones, or some again.

    Example:
        >>> resized((torch.ones(8, 2), 3), 0, 4)[0].shape, resized(torch.ones(1, 2), 0, 4).shape
        (torch.Size([4, 2]), torch.Size([4, 2]))
    """
    length = primary(example).shape[axis]

    def take(tensor: Tensor) -> Tensor:
        if tensor.dim() <= axis or tensor.shape[axis] != length:
            return tensor
        return tensor.index_select(axis, torch.arange(samples, device=tensor.device) % length)

    return tree_map_only(Tensor, take, example)


def varied(tensor: Tensor) -> Tensor:
    """Return a tensor in which not all is the same, drawn at random where the one given is."""
    if tensor.dim() and tensor.is_floating_point() and tensor.numel() and tensor.min() == tensor.max():
        drawn = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0))
        return drawn.to(tensor.device, tensor.dtype)
    return tensor.detach()


def _other(tensor: Tensor, generator: torch.Generator, wide: bool) -> Tensor:
    if tensor.dtype == torch.bool:
        return ~tensor
    if tensor.is_complex():
        return tensor * 2 + 1
    low, high = tensor.min(), tensor.max()
    if not tensor.is_floating_point():
        # Other values of those there are, such as words; one more where there is one alone.
        return low + high - tensor if high > low else tensor + 1
    if bool(((tensor == low) | (tensor == high)).all()):
        return low + high - tensor if high > low else tensor + 1
    drawn = torch.rand(tensor.shape, generator=generator)
    if wide:
        drawn = 6 * drawn - 2.5
    drawn = drawn.to(tensor.device, tensor.dtype)
    return low + (high - low) * drawn
