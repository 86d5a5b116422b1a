"""What differs between what two passes gave, and what that says of where samples lie.

Which axis of a tensor holds samples is not told by its length: it is the one along which, when one sample of the input
changes, nothing but that sample changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


def changes(one: Tensor, other: Tensor) -> list[set[int]] | None:
    """Return for each axis the indices at which two tensors differ; None where they do not.

    Example:
        >>> import torch
        >>> changes(torch.zeros(2, 3), torch.tensor([[0, 0, 0], [1, 1, 1]]))
        [{1}, {0, 1, 2}]
    """
    if one.shape != other.shape:
        return [set(range(length)) for length in one.shape]
    differ = one != other
    if one.is_floating_point():
        differ &= ~(one.isnan() & other.isnan())
    if not differ.any():
        return None
    return [
        set(
            differ.movedim(axis, 0).flatten(1).any(1).nonzero().flatten().tolist()
            if one.dim() > 1
            else differ.nonzero().flatten().tolist()
        )
        for axis in range(one.dim())
    ]


@dataclass(frozen=True)
class Place:
    """Where samples lie in a tensor: the axis, and whether time lies in it too, ``"time"`` or ``"batch"`` first."""

    axis: int
    folded: str | None = None


def places(base: Sequence[Tensor], altered: Mapping[int, Sequence[Tensor]], length: int) -> list[Place] | None:
    """Return where samples can lie in a tensor, or in the ones of several calls.

    Args:
        base: of the example.
        altered: of the example with one sample changed, by the number of the sample.
        length: how many samples there are.

    Returns:
        None where nothing changed.

    Example:
        >>> import torch
        >>> places([torch.zeros(5, 3)], {1: [torch.tensor([0, 1, 0]).expand(5, 3)]}, 3)
        [Place(axis=1, folded=None)]
    """
    seen: dict[int, list[set[int]]] = {}
    for number, tensors in altered.items():
        if len(tensors) != len(base):
            return []
        for one, other in zip(base, tensors, strict=True):
            if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.dim() != base[0].dim():
                return []
            found = changes(one, other)
            if found is None:
                continue
            axes = seen.setdefault(number, [set() for _ in found])
            for indices, new in zip(axes, found, strict=True):
                indices |= new
    if not seen:
        return None
    fitting = []
    for axis, size in enumerate(base[0].shape):
        if size == length and size > 1 and all(axes[axis] <= {number} for number, axes in seen.items()):
            fitting.append(Place(axis))
        elif size > length > 1 and size % length == 0:
            steps = size // length
            if all({index % length for index in axes[axis]} <= {number} for number, axes in seen.items()):
                fitting.append(Place(axis, "time"))
            elif all({index // steps for index in axes[axis]} <= {number} for number, axes in seen.items()):
                fitting.append(Place(axis, "batch"))
    return fitting
