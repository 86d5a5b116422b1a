"""Perturbations of an example, and what they change in an output.

The length of an axis does not identify it. The batch axis is identified by a perturbation: if one sample of the input
changes, then only the same sample changes along the batch axis of every output.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .._utils.calls import map_tensors, primary

Changed = list[set[int]]
"""For each axis of a tensor, the indices at which it differs from another tensor."""
FEW_SAMPLES = 4
"""The number of samples to which large batches are reduced."""


def alter(example: Any, axis: int, index: int | None, values: str = "like") -> Any:
    """Return an example with other values at one index of an axis, or everywhere if the index is None.

    The values are drawn from a range ``"like"`` the example's or six times as ``"wide"``, or ``"moved"`` by one index.
    """
    first = primary(example)
    length = first.shape[axis]
    generator = torch.Generator().manual_seed(0)

    def change(tensor: Tensor) -> Tensor:
        if tensor.dim() <= axis or tensor.shape[axis] != length or not tensor.numel():
            return tensor
        if tensor is not first and counts(tensor):
            return tensor
        other = tensor.roll(1, axis) if values == "moved" else _other_values(tensor, generator, values == "wide")
        if index is not None:
            selected = torch.arange(length, device=tensor.device) == index
            other = torch.where(selected.view(-1, *[1] * (tensor.dim() - axis - 1)), other, tensor)
        return other

    return map_tensors(change, example)


def _other_values(tensor: Tensor, generator: torch.Generator, wide: bool) -> Tensor:
    if tensor.dtype == torch.bool:
        return ~tensor
    if tensor.is_complex():
        return tensor * 2 + 1
    low, high = tensor.min(), tensor.max()
    if not tensor.is_floating_point() or ((tensor == low) | (tensor == high)).all():
        # Integers such as words, and spikes, keep to the values that occur.
        other = low + high - tensor if high > low else tensor + 1
        return 3 * other if wide and tensor.is_floating_point() else other
    drawn = torch.rand(tensor.shape, generator=generator, device="cpu")
    if wide:
        drawn = 6 * drawn - 2.5
    return low + (high - low) * drawn.to(tensor.device, tensor.dtype)


def resized(example: Any, axis: int, samples: int) -> Any:
    """Return an example with another number of samples: its first ones, repeated if there are too few."""
    length = primary(example).shape[axis]

    def take(tensor: Tensor) -> Tensor:
        if tensor.dim() <= axis or tensor.shape[axis] != length:
            return tensor
        return tensor.index_select(axis, torch.arange(samples, device=tensor.device) % length)

    return map_tensors(take, example)


def small_examples(example: Any, samples: int | None) -> Iterator[Any]:
    """Yield the example with a few samples, then with more of its own sizes, and at last as it is.

    The first axis may hold samples or time steps. The second is resized if it is known to hold samples, or if it has
    the length 1, at which no sample can be told from another. Axes of one length could not be told apart where nothing
    changes, so a resized axis has another length than the other axes.
    """
    shape = primary(example).shape

    def few(*others: int) -> int:
        return next((size for size in (FEW_SAMPLES, 5, 3, 6, 7) if size not in others), FEW_SAMPLES)

    second = shape[1] if len(shape) > 2 else None
    # Of sequences, samples may be fewer, but not time steps: messages would speak of steps that the example lacks.
    is_static = len(shape) in (2, 4) or shape[0] == samples != second
    first = few(*shape[1:]) if shape[0] == 1 or (is_static and shape[0] > 2 * FEW_SAMPLES) else shape[0]
    is_sample = second == 1 and samples != shape[0]
    if second is not None and (is_sample or (second == samples != shape[0] and second > 2 * FEW_SAMPLES)):
        yield resized(example, 1, few(shape[0], *shape[2:]))
    if first != shape[0]:
        yield resized(example, 0, first)
    yield example


def varied(tensor: Tensor) -> Tensor:
    """Return the tensor, or random numbers of its shape if all its values are equal."""
    if tensor.dim() and tensor.is_floating_point() and tensor.numel() and tensor.min() == tensor.max():
        drawn = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0), device="cpu")
        return drawn.to(tensor.device, tensor.dtype)
    return tensor.detach()


def counts(tensor: Tensor) -> bool:
    """Return whether a tensor holds the numbers 0, 1, 2, ..., as of time steps."""
    return tensor.dim() == 1 and torch.equal(tensor, torch.arange(len(tensor)).to(tensor))


def variation(tensor: Tensor | None) -> float:
    """Return the share of a tensor's values that differ from its least or from its greatest, whichever is smaller."""
    if tensor is None or not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return min((tensor != value).float().mean().item() for value in tensor.aminmax())


def changed_indices(before: Tensor, after: Tensor) -> Changed | None:
    """Return, for each axis, the indices at which two tensors differ; None if they are equal."""
    if before.shape != after.shape:
        return [set(range(length)) for length in before.shape]
    differ = before != after
    if before.is_floating_point():
        differ &= ~(before.isnan() & after.isnan())
    if not differ.any():
        return None
    per_axis = (differ.movedim(axis, 0).reshape(size, -1).any(1) for axis, size in enumerate(differ.shape))
    return [set(changed.nonzero().flatten().tolist()) for changed in per_axis]


@dataclass(frozen=True)
class BatchAxis:
    """An axis that holds samples, and perhaps time steps as well."""

    axis: int
    merged: Literal["time", "batch"] | None = None
    """None for samples alone; ``"time"`` for an axis ``T * N``, ``"batch"`` for ``N * T``."""


def batch_axes(shape: Sequence[int], changes: Mapping[int, Changed | None], length: int) -> list[BatchAxis] | None:
    """Return the axes of a tensor that may hold ``length`` samples; None if nothing changed in it.

    The changes are those of passes with one sample altered, by the index of the sample.
    """
    changed = {sample: axes for sample, axes in changes.items() if axes is not None}
    if not changed:
        return None
    if any(len(axes) != len(shape) for axes in changed.values()):
        return []
    fitting = []
    for axis, size in enumerate(shape):
        if size == length and size > 1 and all(axes[axis] <= {sample} for sample, axes in changed.items()):
            fitting.append(BatchAxis(axis))
        elif size > length > 1 and size % length == 0:
            steps = size // length
            if all({index % length for index in axes[axis]} <= {sample} for sample, axes in changed.items()):
                fitting.append(BatchAxis(axis, "time"))
            elif all({index // steps for index in axes[axis]} <= {sample} for sample, axes in changed.items()):
                fitting.append(BatchAxis(axis, "batch"))
    return fitting
