"""Inference of the taps: which submodules are tapped, and which axes of their outputs hold time and channels.

For each tap there are candidates, the best first (see :mod:`.candidates`). A candidate is taken if a gradient passes
through it, if its axes can be inferred, and if no other tap gives the same. Where the caller names no place, candidates
are first ordered by how much of the output depends on its parameters through them alone: a module on the trunk of the
network comes before one alongside a shortcut connection.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import primary
from ..method import Extract, Tap, TimeAxis, Unfold, first_tensor
from .answer import Answer, OpenQuestion
from .candidates import DEFAULT_TAPS
from .channels import axes_unlike_input, channel_axis
from .find_by_labels import Prediction
from .gradient_paths import GradientPaths
from .infer_batch_axis import Samples
from .layers import channel_axis_of, has_weights, holds_matrix, is_layer
from .probe import CALL_ERRORS
from .recorder import Event, named_modules
from .tap_samples import Located, place_of_samples

CANDIDATES_TRIED = 5
"""The number of candidates that are tried for each tap."""


class _OpenChannelsError(ValueError):
    """The channel axis of a tap remains open."""


@dataclass
class TapInference:
    """The inference of the taps, and the facts that its steps share."""

    samples: Samples
    prediction: Prediction
    paths: GradientPaths
    shared_channels: bool = False
    """Whether the caller gives one channel axis for several taps."""
    shared_dims: int | None = None
    """The number of axes of the taps for which it is taken."""

    @property
    def _events(self) -> dict[str, Event]:
        return self.samples.probe.base.events

    def infer(
        self, taps: str | int | Sequence[str], candidates: list[list[str]], time_axis: Any, channel_axis: Any
    ) -> Answer[tuple[Tap, ...]]:
        """Infer the taps, of the candidates for each of them."""
        times = _one_per_tap(time_axis, len(candidates), "time axes")
        channels = _one_per_tap(channel_axis, len(candidates), "channel axes")
        self.shared_channels = len(candidates) > 1 and isinstance(channel_axis, int)
        found: list[Tap] = []
        open_taps: dict[str, tuple[str, str]] = {}
        shares: dict[str, float] = {}
        for names, *axes in zip(candidates, times, channels, strict=True):
            is_certain = len(names) == 1
            if not is_certain:
                names = list(dict.fromkeys(filter(self.paths.passes_gradients, names)))[:CANDIDATES_TRIED] or names
                self._check_trained(names)
                shares |= {name: self._share_of_output(name) for name in names}
                names = sorted(names, key=lambda name: -shares[name])
            try:
                tap = self._first_usable(names, axes, found, is_certain=is_certain)
                found += [] if tap is None else [tap]
            except _OpenChannelsError as error:
                open_taps[names[0]] = error.args
        if open_taps:
            asked = ", ".join(open_taps.get(names[0], ("", "'auto'"))[1] for names in candidates)
            raise OpenQuestion(
                f"the channel axis of {', '.join(shape for shape, _ in open_taps.values())} remains open: pass "
                f"channel_axis=[{asked}], one for each of the taps {', '.join(names[0] for names in candidates)}"
            )
        if candidates and not found:
            name = candidates[0][0]
            raise OpenQuestion(
                f"the axes of time and channels in {type(self.samples.probe.initial).__name__} remain open: {name}, "
                f"for one, gives shape {self._events[name].shape}; pass time_axis=... and channel_axis=..., or "
                "taps=[...] of other submodules, and extract=... for their features, as in lambda y: y.unflatten(0, "
                "(4, -1, 3)) where 4 time steps, samples and 3 variables share an axis"
            )
        if found and not isinstance(taps, int):
            found = _on_trunk(found, shares)
        self._check_training(found)
        return Answer(tuple(found), _reason(taps, candidates))

    def _first_usable(self, names: list[str], axes: list[Any], found: list[Tap], *, is_certain: bool) -> Tap | None:
        """Return the first candidate that can be tapped and gives something new; None if there is none.

        Raises:
            ValueError: the tap that the caller named, or the end of a stage, cannot be used.
        """
        problem: Exception | None = None
        for name in names:
            try:
                tap = self._tap(name, *axes)
            except (ValueError, TypeError) as error:
                problem = problem or error
                continue
            same = [other.name for other in found if tap.name == other.name or self._give_the_same(tap, other)]
            apart = is_certain or all(self._layer_between(tap, other) for other in found)
            if apart and (not same or (is_certain and tap.name not in same)):
                return tap
            problem = None
        if problem is not None and (is_certain or not any(map(self.paths.passes_gradients, names))):
            raise problem
        return None

    # Which modules

    def _check_trained(self, names: list[str]) -> None:
        """Check that a branch trains something, if anything in the network is trained."""
        frozen = any(map(self.paths.passes_gradients, names)) and not any(map(self.paths.trains, names))
        if frozen and self.paths.some_weights_are_trained:
            raise ValueError(
                f"no gradient of a branch at {names[0]!r} reaches weights that are trained: let weights before the "
                "last layer require gradients, name taps=[...] after such, or pass taps=[]"
            )

    def _share_of_output(self, name: str) -> float:
        output = self.paths.output
        with suppress(*CALL_ERRORS):  # In training mode the network may return something else.
            output = self.prediction.read(output)
        return round(self.paths.share_of_output(name, output), 1)

    def _give_the_same(self, tap: Tap, other: Tap) -> bool:
        """Return whether one of two modules is inside the other, and both give the same."""
        nested = f"{tap.name}.".startswith(f"{other.name}.") or f"{other.name}.".startswith(f"{tap.name}.")
        if not nested:
            return False
        some, others = self.samples.features(tap.name), self.samples.features(other.name)
        return len(some) == len(others) and all(map(torch.equal, some, others))

    def _layer_between(self, tap: Tap, other: Tap) -> bool:
        """Return whether a layer is called between the ends of two modules, unlike those of a norm and its neurons."""
        first, last = sorted((self._events[tap.name], self._events[other.name]), key=lambda event: event.end)
        layers = self._events_of(is_layer)
        return not layers or any(first.end < layer.begin and layer.end <= last.end for layer in layers)

    def _events_of(self, is_of_kind: Callable[[nn.Module], bool]) -> list[Event]:
        """Return the events of modules of a kind, and of those with a matrix of their own."""
        modules = [
            name for name, one in named_modules(self.samples.probe.initial) if is_of_kind(one) or holds_matrix(one)
        ]
        return [self._events[name] for name in modules if name in self._events]

    # Which axes

    def _tap(self, name: str, time_axis: TimeAxis | str, channel_axis: int | str) -> Tap:
        """Return a tap on a module, with its axes inferred."""
        if not self.paths.passes_gradients(name):
            raise ValueError(
                f"no gradient comes through the tap {name!r}, so its branch would train nothing: its output is "
                "rounded, compared or detached, computed in torch.no_grad() or checkpoint(use_reentrant=True), or no "
                "weights come before it; tap others in taps=[...]"
            )
        extract = self.samples.probe.extract_of(name)
        features = extract(self.samples.probe.base.outputs[name][0])
        if not isinstance(features, Tensor):
            raise TypeError(f"extract=... gives {type(features).__name__} of the tap {name!r}, not a tensor")
        self._check_calls(name)
        if time_axis == "auto":
            located = self._locate_samples(name, features, extract, channel_axis)
        else:
            located = Located(features, extract, 1 if time_axis == 0 else 0)
        is_given = time_axis != "auto"
        first = 2 if located.batch == 1 or located.unfolded or time_axis == 1 else 1
        shape = tuple(located.features.shape)
        axes = list(range(first, len(shape)))
        if not axes or not located.features.is_floating_point():
            raise ValueError(f"the tap {name!r} gives shape {shape}, which has no channels: tap another")
        channels = self._channels(name, located, axes, channel_axis)
        if time_axis == "auto":
            time_axis = self._infer_time(name, located, channels)
        own = None if located.extract is first_tensor else located.extract
        tap = Tap(name, time_axis, channels, own, shape, self._events[name].calls)  # type: ignore[arg-type]
        return tap if self.prediction.step_axis is None else self._along_steps(tap, is_given)

    def _along_steps(self, tap: Tap, is_given: bool) -> Tap:
        """Return a tap whose axis of time is that of the prediction, which may be one of tokens, or the calls."""
        shape, base = tap.shape, self.samples.probe.base
        steps = self.prediction.read(base.output).shape[self.prediction.step_axis]
        axes = [axis for axis in range(len(shape)) if axis not in (tap.batch_axis, tap.channel_axis)]
        lengths = {axis: shape[axis] for axis in axes} | ({None: tap.calls} if tap.calls > 1 else {})
        usual = (steps, primary(base.example).shape[1 - self.samples.axis])
        fitting = [axis for axis, length in lengths.items() if length in usual]
        fitting = fitting or [axis for axis, length in lengths.items() if length > 1]
        if is_given and tap.time_axis in fitting:
            fitting = [tap.time_axis]
        if len(fitting) != 1:
            raise ValueError(
                f"the tap {tap.name!r} gives shape {shape} in each of {tap.calls} calls, which has "
                f"{'several axes' if fitting else 'no axis'} that may be the {steps} steps of the prediction: "
                f"{'pass time_axis=..., or ' if fitting else ''}tap another in taps=[...]"
            )
        (axis,) = fitting
        if axis == tap.time_axis:
            return tap
        order = [other for other in range(len(shape)) if other not in (axis, tap.time_axis)]
        order[1:1] = [] if axis is None else [axis]
        return replace(
            tap,
            time_axis=None if axis is None else 1,
            channel_axis=order.index(tap.channel_axis),  # type: ignore[arg-type]
            extract=partial(_steps_second, tap.extract or first_tensor, axis, tap.time_axis),
            shape=tuple(shape[axis] for axis in order),
        )

    def _check_calls(self, name: str) -> None:
        """Check that a module's calls are time steps, not the calls of several layers that share it."""
        event = self._events[name]
        if not event.same_shape or not event.is_stepped(self._events_of(has_weights)):
            raise ValueError(
                f"the tap {name!r} is called {event.calls} times in a pass, by several layers that share it: tap "
                "modules that these have for themselves, such as the containers around them, in taps=[...]"
            )

    def _locate_samples(self, name: str, features: Tensor, extract: Extract, channel_axis: int | str) -> Located:
        """Return the features of a module with time and samples in axes of their own."""
        try:
            found = place_of_samples(self.samples, name, features)
        except OpenQuestion as question:
            axes = range(1, features.dim())
            # Of three axes, time and samples leave one.
            if (
                channel_axis != "auto"
                or len(axes) < 3
                or self._infer_channels(name, Located(features, extract, 0), axes)
            ):
                raise
            raise OpenQuestion(
                *question.parts, f"the channel axis of {name!r} too: pass channel_axis=..."
            ) from question
        if not found.merged:
            return Located(features, extract, found.axis)
        time = 0 if found.merged == "time" else 1
        # The passes may hold fewer time steps than the example in full size.
        view = Unfold(features.shape[0] // self.samples.length, time)
        total = Unfold(self.samples.total_steps(features.shape[0]), time, extract)
        return Located(view(features), total, 1 - time, unfolded=True)

    def _channels(self, name: str, located: Located, axes: list[int], asked: int | str) -> int:
        """Return the channel axis: the caller's for this tap, the inferred one, or the caller's for all taps."""
        shape = tuple(located.features.shape)
        named = asked % len(shape) if isinstance(asked, int) else None
        if named is not None and not self.shared_channels:
            self._check_channels(name, located, axes, named)
            return named
        inferred = axes[0] if len(axes) == 1 else self._infer_channels(name, located, axes)
        if inferred is not None:
            return inferred
        # One axis for all is not that of taps of another kind.
        if named not in axes or self.shared_dims not in (None, len(shape)):
            raise _OpenChannelsError(f"{name!r} of shape {shape}", " or ".join(map(str, axes)))
        self.shared_dims = len(shape)
        return named

    def _infer_channels(self, name: str, located: Located, axes: Sequence[int]) -> int | None:
        changes = located.changes(name)
        axis = channel_axis(self.samples.probe, changes, axes)
        if axis is not None:
            return axis
        shape = tuple(located.features.shape)
        width = self._width_of_last_layer(name)
        fitting = [axis for axis in axes if shape[axis] == width]
        if len(fitting) != 1:
            fitting = axes_unlike_input(self.samples, changes, shape, axes)
        return fitting[0] if len(fitting) == 1 else None

    def _width_of_last_layer(self, name: str) -> int | None:
        """Return the number of channels of the last layer before a module ends."""
        modules, end = dict(named_modules(self.samples.probe.initial)), self._events[name].end
        before = [
            (modules[other], event.shape) for other, event in self._events.items() if event.shape and event.end <= end
        ]
        widths = [shape[axis] for module, shape in before if (axis := channel_axis_of(module, shape)) is not None]
        return widths[-1] if widths else None

    def _check_channels(self, name: str, located: Located, axes: list[int], channels: int) -> None:
        """Check that the caller's channel axis is not an axis of the input, such as time."""
        if len(axes) < 2:
            return
        shape = tuple(located.features.shape)
        fitting = axes_unlike_input(self.samples, located.changes(name), shape, axes)
        if len(fitting) == 1 and channels in axes and channels not in fitting:
            raise ValueError(
                f"the tap {name!r} gives shape {shape}, whose axis {channels} is one of the input's, such as time, "
                f"while axis {fitting[0]} holds channels: pass channel_axis as a list, with one for each tap"
            )

    def _infer_time(self, name: str, located: Located, channels: int) -> TimeAxis:
        if located.unfolded:
            return 1 - located.batch
        if located.batch == 1:
            return 0
        probe = self.samples.probe
        if self._events[name].calls > 1 or probe.run is not None or channels <= 1:
            return None
        shape = primary(probe.base.example).shape
        like_input = self.samples.axis == 0 and len(shape) > 2 and located.features.shape[1] == shape[1]
        return 1 if located.features.dim() > 4 or like_input else None

    def _check_training(self, taps: Sequence[Tap]) -> None:
        """Check that taps give the same shapes in training mode, where some modules return more."""
        for tap in taps:
            expected, shape = tuple(self.samples.features(tap.name)[0].shape), self.paths.shapes.get(tap.name, ())
            if shape != expected:
                raise ValueError(
                    f"the tap {tap.name!r} gives shape {shape} in training and {expected} in evaluation: pass "
                    f"extract=..., which returns the part of shape {expected}, as in lambda y: y[:{expected[0]}], or "
                    "tap another in taps=[...]"
                )


def _steps_second(extract: Extract, steps: int | None, time_axis: TimeAxis, output: Any) -> Tensor:
    """Return features averaged over the time of neurons, with the axis of the predicted steps, if any, second."""
    features = extract(output)
    features = features if steps is None else features.movedim(steps, -1)
    features = features if time_axis is None else features.mean(time_axis)
    return features if steps is None else features.movedim(-1, 1)


def _one_per_tap(value: Any, taps: int, what: str) -> list[Any]:
    """Return a list with one value per tap, from such a list or from one value for all."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * taps
    if len(values) != taps:
        raise ValueError(f"{taps} taps need as many {what}, got {len(values)}")
    return values


def _on_trunk(taps: list[Tap], shares: dict[str, float]) -> list[Tap]:
    """Return the taps that carry at least half as much of the output as the best, and at least the two best."""
    order = sorted((shares.get(tap.name, 1) for tap in taps), reverse=True)
    lower_bound = min(order[0] / 2, order[:2][-1])
    return [tap for tap in taps if shares.get(tap.name, 1) >= lower_bound]


def _reason(taps: str | int | Sequence[str], candidates: list[list[str]]) -> str:
    if not candidates:
        return "taps=[]" if taps != "auto" else "no place for a branch"
    if taps == "auto":
        certain = all(len(names) == 1 for names in candidates)
        return "the ends of its stages but the last" if certain else f"up to {DEFAULT_TAPS} places, evenly spread"
    return f"taps={taps!r}" if isinstance(taps, str | int) else "your taps=[...]"
