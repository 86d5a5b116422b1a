"""Inference of the channel axis of a tensor, and of axes that are the input's own, such as time."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .._utils.calls import primary
from .infer_batch_axis import Samples
from .perturb import Changed
from .probe import Probe
from .recorder import Pass

Changes = Callable[[Pass], Changed | None]
"""Returns where a tensor differs in a pass from the base pass."""


def channel_axis(probe: Probe, changes: Changes, axes: Sequence[int]) -> int | None:
    """Return the axis along which different channels of the layers before change different indices; None if open."""
    first, second = map(changes, probe.channel_passes())
    if first is None or second is None:
        return None
    fitting = [axis for axis in axes if first[axis].isdisjoint(second[axis])]
    return fitting[0] if len(fitting) == 1 else None


def axes_unlike_input(samples: Samples, changes: Changes, shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return the axes that are not axes of the input, such as time.

    An axis is the input's if altering a late index along the input's axis changes no earlier index along it. The last
    indices may change nothing, in a network whose input acts one or two steps late.
    """
    input_shape = primary(samples.probe.base.example).shape

    def is_of_input(axis: int) -> bool:
        size = shape[axis]
        for input_axis, length in enumerate(input_shape):
            if input_axis not in (0, samples.axis) and length == size > 2:
                last = range(size - 1, max(size - 4, 0), -1)
                late = ((index, changes(samples.probe.altered(input_axis, index))) for index in last)
                index, indices = next((one for one in late if one[1] is not None), (0, None))
                if indices is not None and min(indices[axis]) >= index:
                    return True
        return False

    return [axis for axis in axes if not is_of_input(axis)]


def follows_time(samples: Samples, read: Callable[[Any], Any], axis: int) -> bool:
    """Return whether an axis of the predictions, which ``read`` takes from an output, goes along the input's time.

    A late input then changes no early predictions, or changes the prediction at its own place most.
    """
    probe, time = samples.probe, 1 - samples.axis
    example, before = primary(probe.base.example), read(probe.base.output)
    # Two axes of numbers are samples and features.
    if example.dim() < (3 if example.is_floating_point() else 2):
        return False
    length, steps = example.shape[time], before.shape[axis]

    def changes(index: int) -> list[float]:
        change: Tensor = (read(probe.altered(time, index).output) - before).abs().movedim(axis, 0)
        values: list[float] = change.flatten(1).sum(1).tolist()
        return values

    middle, last = changes(length // 2), changes(length - 1)
    if min(length, steps) < 2 or not any(middle):
        # Where neurons are silent, only the lengths are left.
        return min(length, steps) > 1 and not any(last) and length % steps == 0
    if not any([*middle[: length // 2 * steps // length], *last[: (length - 1) * steps // length]]):
        return True
    peaks = [(index, changes(index)) for index in (0, length // 2, length - 1)]
    return steps == length and all(change[index] == max(change) > 0 for index, change in peaks)
