"""Inference of the channel axis of a tensor, and of axes that are the input's own, such as time."""

from collections.abc import Callable, Sequence

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
