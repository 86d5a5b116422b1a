"""Inference of the channel axis of a tensor, and of axes that are the input's own, such as time."""

from collections.abc import Callable, Sequence

from ..method import primary
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
    index may change nothing, in a network whose input acts one step late.
    """
    input_shape = primary(samples.probe.base.example).shape

    def is_of_input(axis: int) -> bool:
        size = shape[axis]
        for input_axis in range(1, len(input_shape)):
            if input_axis != samples.axis and input_shape[input_axis] == size > 2:
                for index in (size - 1, size - 2):
                    indices = changes(samples.probe.altered(input_axis, index))
                    if indices is not None:
                        if min(indices[axis]) >= index:
                            return True
                        break
        return False

    return [axis for axis in axes if not is_of_input(axis)]
