"""The logits in what a network gives: found by what changes in it with a sample, and with a channel."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..method import Extract, Readout, Unfold, primary
from .changes import changes
from .probing import UNFIT, is_layer, named
from .samples import FEW, Samples, leaves_of

_LOGITS = ("logits", "output", "outputs", "out", "prediction", "predictions", "pred", "y_hat", "cls", "main")


def find_readout(
    samples: Samples,
    given: Extract | str | None,
    classes: int | None,
    time_axis: Any,
    lengths: Callable[[], set[int]],
    labels: Tensor | None = None,
) -> tuple[Any, int, tuple[int, ...] | None]:
    """Return what takes the logits out of what the network gives, how many classes there are, and a prediction's shape.

    Args:
        samples: where these lie, found already.
        given: the readout that somebody passed, or ``"auto"``.
        classes: how many, if that is known.
        time_axis: as it was passed to :func:`~.attachment.attach`.
        lengths: how many time steps there may be.
        labels: of the example, or its targets.

    Raises:
        ValueError: it cannot be told, or what was passed gives no logits; the message says what to pass.
    """
    readout: Any = given
    fitting = _predictions(samples, labels) if isinstance(given, str) and labels is not None else []
    told = isinstance(given, str) and len(fitting) != 1
    if len(fitting) == 1:
        (readout,) = fitting
    elif told:
        readout = _found_readout(samples, classes, time_axis, lengths, labels)
    output = samples.base.output
    logits = output if readout is None else readout(output)
    if not isinstance(logits, Tensor) or not logits.dim():
        got = type(logits).__name__ if not isinstance(logits, Tensor) else "a single number"
        raise ValueError(
            f"{'the network' if readout is None else 'readout=...'} gives {got}: pass readout=..., which takes "
            "the network's output and returns logits [N, classes]"
        )
    for number, done in samples.altered.items():
        other = changes(logits, done.output if readout is None else readout(done.output))
        if other is not None and not other[0] <= {number} and not samples.mixing:
            raise ValueError(
                f"the logits, of shape {tuple(logits.shape)}, do not hold one sample at each index of their first "
                "axis: pass readout=..., which takes the network's output and returns logits [N, classes], as in "
                "lambda output: output.mean(0) for [T, N, classes] or output.mean(1) for [N, T, classes]"
            )
    if len(logits) != samples.length and told:
        raise ValueError(
            f"the network gives {len(logits)} predictions for {samples.length} samples: pass readout=..., which takes "
            "its output and returns logits [N, classes]"
        )
    axis = 1 if logits.dim() > (2 if told else 3) else -1
    if logits.dim() == 3 and not told:
        found, _ = samples.class_axis(
            lambda done: [done.output if readout is None else readout(done.output)], [1, 2], None, []
        )
        axis = found or axis
    # What has two axes of its own, such as steps and variables, is no logits.
    shape = tuple(logits.shape[1:]) if logits.dim() == 3 and not told else None
    return readout, classes or int(1 if logits.dim() == 1 else logits.shape[axis]), shape


def _predictions(samples: Samples, targets: Tensor) -> list[Readout | None]:
    """What may take predictions for the targets out of the output: as they stand, or averaged over time.

    Targets ``[N, steps, variables]`` are compared with as many numbers, and classes ``[N, *space]`` with ``[N, classes,
    *space]``.
    """
    found: list[Readout | None] = []
    if targets.dim() < 3:
        return found
    rest, dims = tuple(targets.shape[1:]), targets.dim() + (not targets.is_floating_point())
    for path, leaf in leaves_of(samples.base.output).items():
        places, lead = samples.places_of_leaf(path) or [], leaf.dim() - dims
        axis = next((place.axis for place in places if not place.folded), None)
        if axis is not None and axis <= lead <= 1 and tuple(leaf.shape[-len(rest) :]) == rest:
            found.append(Readout(path, 1 - axis) if lead else Readout(path) if path else None)
    return found


def logits_of(samples: Samples, classes: int | None) -> Callable[[Any], dict[tuple[Any, ...], Tensor]]:
    """Return what takes the tensors out of an output that may be its logits: one, where that is told.

    Args:
        samples: where these lie, found already.
        classes: how many, if that is known.
    """
    try:
        path = _logits(samples, classes)
    except ValueError:
        return leaves_of
    return lambda output: {path: leaves_of(output)[path]}


def _found_readout(
    samples: Samples, classes: int | None, time_axis: Any, lengths: Callable[[], set[int]], labels: Tensor | None
) -> Readout | None:
    if isinstance(samples.base.output, list) and _in_turn(samples, samples.base.output):
        return Readout((), 0, listed=True)
    path = _logits(samples, classes, labels)
    leaf = leaves_of(samples.base.output)[path]
    shown = f"the network gives {_at(path) or 'a tensor '}of shape {tuple(leaf.shape)}"
    plain = samples.likely(samples.places_of_leaf(path), leaf)
    if len(plain) != 1 or plain[0].axis > 1:
        raise ValueError(
            f"{shown}, and along which axis samples lie is not told by it: pass readout=..., which takes the "
            "network's output and returns logits [N, classes]"
        )
    (place,), unfold = plain, None
    dims, batch = leaf.dim(), place.axis
    if place.folded:
        steps = samples.steps(lambda done: leaves_of(done.output)[path])
        unfold = Unfold(steps, 0 if place.folded == "time" else 1)
        dims, batch = dims + 1, 1 - unfold.axis
    if dims == 1 or (dims == 2 and batch == 1) or dims > 5:
        cure = {1: "lambda output: output.unsqueeze(1)", 2: "lambda output: output.T"}.get(dims, "...")
        raise ValueError(f"{shown}, not logits [N, classes] or [T, N, classes]: pass readout={cure}")
    if dims == 2:
        return Readout(path)
    if dims == 3 and batch == 1:
        return Readout(path, 0, unfold)
    if unfold is not None:
        return Readout(path, batch ^ 1, unfold)
    first = 1 + batch
    width, _ = samples.class_axis(lambda done: [leaves_of(done.output)[path]], list(range(first, dims)), None, [])
    if dims > 3 and (width == first or (batch == 1 and dims == 5 and width is None)):
        # Something is predicted at every place.
        return Readout(path, 0 if batch else None)
    if width is None and dims == 3:
        fitting = [axis for axis in (1, 2) if leaf.shape[axis] == _classes_of(labels)]
        if len(fitting) != 1:
            fitting = samples.not_along(lambda done: leaves_of(done.output)[path], [1, 2])
        width = 2 if time_axis == 1 else fitting[0] if len(fitting) == 1 else None
    # What is averaged over has to be time: as long as that is elsewhere.
    if dims == 3 and width is not None and leaf.shape[3 - width] in lengths():
        return Readout(path, 3 - width)
    if dims == 5 and width == 2:
        return Readout(path, 1)
    raise ValueError(
        f"{shown}, not logits [N, classes] or [T, N, classes]: pass readout=..., which takes the network's output "
        "and returns logits [N, classes], as in lambda output: output.mean(1) for [N, T, classes], or "
        "readout=None if it is the prediction [N, classes, ...] as it stands"
    )


def _logits(samples: Samples, classes: int | None, labels: Tensor | None = None) -> tuple[Any, ...]:
    leaves = {
        path: leaf for path, leaf in leaves_of(samples.base.output).items() if leaf.dim() and leaf.is_floating_point()
    }
    if not leaves:
        raise ValueError(
            f"the network gave {type(samples.base.output).__name__} without a tensor in it, not logits [N, classes]: "
            "pass readout=..., which takes the network's output and returns logits [N, classes]"
        )
    if len(leaves) > 1 and not isinstance(next(iter(leaves))[0], int):
        called = [path for name in _LOGITS for path in leaves if path == (name,)]
        if called:
            return called[0]
    if len(leaves) > 1:
        narrow = {path: leaf for path, leaf in leaves.items() if leaf.dim() in (2, 3)}
        # Such as logits beside feature maps, and not what lies in between beside a picture that is made of it.
        leaves = narrow if narrow and (len(narrow) == len(leaves) or _come_last(samples, narrow)) else leaves
    if classes is not None and len(leaves) > 1:
        wide = {path: leaf for path, leaf in leaves.items() if classes in (leaf.shape[-1], leaf.shape[1 % leaf.dim()])}
        leaves = wide or leaves
    # What is compared with numbers may be the spikes of the last neurons, or their potentials.
    several = isinstance(samples.base.output, tuple) and len(leaves) <= FEW
    several = several and not (labels is not None and labels.is_floating_point())
    if len(leaves) == 1 or (several and len({leaf.shape[-1] for leaf in leaves.values()}) == 1):
        # Such as spikes and membrane potentials of the same neurons.
        return next(iter(leaves))
    if isinstance(samples.base.output, list) and len({leaf.shape for leaf in leaves.values()}) == 1:
        raise ValueError(
            f"the network gives a list of {len(leaves)} tensors of shape "
            f"{tuple(next(iter(leaves.values())).shape)}, and whether these are time steps or predictions of their "
            "own is not told by them: pass readout=..., as in lambda output: torch.stack(output).mean(0), or "
            "lambda output: output[0]"
        )
    # As wide as the labels' classes, and made of what comes last: hidden spikes and what is drawn anew are not.
    wide = {path: leaf for path, leaf in leaves.items() if leaf.shape[-1] == _classes_of(labels)}
    if len(wide) == 1 and _come_last(samples, wide, layers=True):
        return next(iter(wide))
    listed = ", ".join(f"{_at(path)}of shape {tuple(leaf.shape)}" for path, leaf in leaves.items())
    path, leaf = next(reversed(leaves.items()))
    mean = ".mean(0)" if leaf.dim() == 3 and leaf.shape[0] != samples.length else ".mean(1)" if leaf.dim() == 3 else ""
    raise ValueError(
        f"the network gives {listed}, and which of these are the logits is not told by them: pass readout=..., as "
        f"in lambda output: output[{path[0]!r}]{mean}"
    )


def _classes_of(labels: Tensor | None) -> int | None:
    """How many classes labels speak of, if they are of classes."""
    of_classes = labels is not None and labels.dim() == 1 and len(labels) and not labels.is_floating_point()
    return int(labels.max()) + 1 if labels is not None and of_classes else None


def _in_turn(samples: Samples, output: list[Any]) -> bool:
    """Whether a list holds ``[N, classes]`` of each time step, made of the steps so far and of none that comes later.

    The steps are the calls of the last layer or, where it is called once for all, those of the example.
    """
    if {getattr(one, "ndim", 0) for one in output} != {2}:
        return False
    example, number = samples.base.example, len(output)
    shape, time = primary(example).shape, 1 - (samples.batch_axis or 0)
    layers = _layers(samples)
    if layers and samples.trace.events[layers[-1]].calls == number:
        last = layers[-1]
        samples.ensure(last)
        base, other = samples.base.kept[last], next(iter(samples.altered.values())).kept[last]
        mixed = [[*base[:step], *other[step : step + 1], *base[step + 1 :]] for step in range(number)]
        passes = [samples.prober.go(example, patch={last: calls}) for calls in mixed if len(calls) == number]
    elif len(shape) > 2 and shape[time] == number:
        passes = [samples.prober.other(example, time, step) for step in range(number)]
    else:
        return False
    changed: set[int] = set()
    if any(len(done.output) != number for done in passes):
        return False
    for step, done in enumerate(passes):
        changed = {k for k, (one, new) in enumerate(zip(output, done.output, strict=True)) if changes(one, new)}
        if not changed <= set(range(step, number)):
            return False
    return bool(changed)


def _layers(samples: Samples) -> list[str]:
    """The layers that were called, in the order in which their first calls ended."""
    modules = dict(named(samples.prober.rest))
    return [name for name, event in samples.trace.events.items() if event.shape is not None and is_layer(modules[name])]


def _come_last(samples: Samples, leaves: dict[tuple[Any, ...], Tensor], layers: bool = False) -> bool:
    """Whether all of some tensors of an output are made of what the network's last module, or layer, gives."""
    names = [name for name, event in samples.trace.events.items() if name and event.shape is not None]
    names = _layers(samples) if layers else names
    if not names:
        return not layers
    altered = next(iter(samples.altered.values()))
    samples.ensure(names[-1])
    try:
        done = samples.prober.go(altered.example, patch={names[-1]: samples.base.kept[names[-1]]})
    except UNFIT:
        return True
    output = leaves_of(done.output)
    return all(path in output and changes(leaf, output[path]) is None for path, leaf in leaves.items())


def _at(path: tuple[Any, ...]) -> str:
    return f"output[{path[0]!r}] " if path else ""
