"""Inference of the channel axis of a tensor, and of axes that are the input's own, such as time."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..method import primary
from .infer_batch_axis import SEEDS, SamplePasses
from .layers import channel_axis_of
from .perturb import changed_indices
from .probe import Injection, Pass, named_modules

LAYERS_TRIED = 3
"""The number of layers before a tensor whose channels are changed."""


def infer_channel_axis(
    passes: SamplePasses,
    tensors: Callable[[Pass], list[Tensor]],
    axes: Sequence[int],
    *,
    before: int | None = None,
    listen: Sequence[str] = (),
) -> tuple[int | None, int | None]:
    """Infer the axis along which one index alone changes with one channel of a layer before.

    Args:
        passes: of the network.
        tensors: returns the tensors of the calls in a pass.
        axes: the candidates.
        before: the time in the trace at which the tensor was computed; None for the output of the network.
        listen: modules whose outputs ``tensors`` needs.

    Returns:
        The axis, None if it remains open; and the number of channels of the last layer before, if there is one.
    """
    layers = _layers_before(passes, before)
    base = tensors(passes.base)
    for layer, axis, width in reversed(layers[-LAYERS_TRIED:]):
        changed = [
            _indices_changed_by(
                passes, tensors, base, [Injection(layer, axis, channel, sign) for sign in (1, -1)], listen
            )
            for channel in (0, width // 2)
        ]
        fitting = [a for a in axes if all(len(one[a]) == 1 for one in changed) and changed[0][a] != changed[1][a]]
        if len(fitting) == 1:
            return fitting[0], width
        if len(fitting) > 1:
            break
    return None, layers[-1][2] if layers else None


def _layers_before(passes: SamplePasses, before: int | None) -> list[tuple[str, int, int]]:
    """Return name, channel axis and width of the layers that ended before a time, in this order."""
    modules = dict(named_modules(passes.probe.initial))
    layers = []
    for name, event in passes.probe.trace.events.items():
        if event.shape is not None and (before is None or event.end <= before):
            axis = channel_axis_of(modules[name], len(event.shape))
            if axis is not None and event.shape[axis] > 1:
                layers.append((name, axis, event.shape[axis]))
    return layers


def _indices_changed_by(
    passes: SamplePasses,
    tensors: Callable[[Pass], list[Tensor]],
    base: list[Tensor],
    injections: Sequence[Injection],
    listen: Sequence[str],
) -> list[set[int]]:
    """Return, for each axis, the indices that any of the injections changes in any call."""
    total: list[set[int]] = [set() for _ in base[0].shape]
    for injection in injections:
        after = tensors(passes.probe.observe(passes.example, listen, injection))
        for one, other in zip(base, after, strict=True):
            for indices, new in zip(total, changed_indices(one, other) or [], strict=False):
                indices |= new
    return total


def axes_unlike_input(
    passes: SamplePasses, tensor: Callable[[Pass], Tensor], axes: Sequence[int], listen: Sequence[str] = ()
) -> list[int]:
    """Return the axes that are not axes of the input, such as time.

    An axis is the input's if altering the last index along the input's axis changes the last index along it alone.
    """
    base, shape = tensor(passes.base), primary(passes.example).shape

    def is_of_input(axis: int) -> bool:
        last = base.shape[axis] - 1
        for input_axis in range(1, len(shape)):
            if input_axis == passes.axis or not last or shape[input_axis] != last + 1:
                continue
            for seed in range(SEEDS):
                other = tensor(passes.probe.observe_altered(passes.example, input_axis, last, listen, seed))
                indices = changed_indices(base, other)
                if indices is not None:
                    break
            if indices is not None and len(indices) > axis and indices[axis] == {last}:
                return True
        return False

    return [axis for axis in axes if not is_of_input(axis)]
