"""Inference of the taps: which submodules are tapped, and which axes of their outputs hold time and channels.

For each tap there are candidates, the best first (see :mod:`.candidates`). A candidate is taken if a gradient passes
through it, if its axes can be inferred, and if no other tap gives the same. Where the caller names no place, candidates
are first ordered by how much of the output depends on the input through them: a module on the trunk of the network
comes before one alongside a shortcut connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..method import Extract, Readout, Tap, TimeAxis, TimeLoop, Unfold, first_tensor, one_per_tap, primary
from .answer import Answer
from .candidates import DEFAULT_TAPS
from .channels import axes_unlike_input, infer_channel_axis
from .infer_batch_axis import CANDIDATES_TRIED, SamplePasses, place_of_samples, total_steps
from .layers import channel_axis_of
from .outputs import tensors_of
from .probe import CALL_ERRORS, Event, Pass, Patch, named_modules


def infer_taps(
    passes: SamplePasses,
    taps: str | int | Sequence[str],
    candidates: list[list[str]],
    *,
    time_axis: Any,
    channel_axis: Any,
    readout: Callable[[Any], Any] | None,
) -> Answer[tuple[Tap, ...]]:
    """Infer the taps.

    Args:
        passes: with one sample altered.
        taps: as the caller passed them.
        candidates: for each tap.
        time_axis: as the caller passed it; ``"auto"`` to infer it, or a list with one for each tap.
        channel_axis: as the caller passed it, likewise.
        readout: of the network; None for the output itself.

    Raises:
        ValueError: a named tap cannot be used, or no candidate can; the message names the argument to pass.
    """
    return _TapInference(passes, readout).infer(taps, candidates, time_axis, channel_axis)


@dataclass
class _TapInference:
    """The facts that the inference shares, and its steps."""

    passes: SamplePasses
    readout: Callable[[Any], Any] | None

    @property
    def events(self) -> dict[str, Event]:
        return self.passes.probe.trace.events

    def infer(
        self, taps: str | int | Sequence[str], options: list[list[str]], time_axis: Any, channel_axis: Any
    ) -> Answer[tuple[Tap, ...]]:
        times = one_per_tap(time_axis, len(options), "time axes")
        channels = one_per_tap(channel_axis, len(options), "channel axes")
        trained = self._train({name for names in options for name in names})
        untrained = self._without_gradient(trained)
        options = [[name for name in names if name not in untrained] or names for names in options]
        some_train = bool(set().union(*options) - untrained)
        found: list[Tap] = []
        shares: dict[str, float] = {}
        for names, *axes in zip(options, times, channels, strict=True):
            is_certain = len(names) == 1
            if not is_certain:
                shares |= self._shares_of_output(names)
                names = sorted(dict.fromkeys(names[:CANDIDATES_TRIED]), key=lambda name: -shares.get(name, 0))
            tap = self._first_usable(names, axes, untrained, found, is_certain=is_certain, must_exist=not some_train)
            if tap is not None:
                found.append(tap)
        if options and not found:
            raise ValueError(self._question_about_axes(options[0][0]))
        if found and not isinstance(taps, int):
            found = _on_trunk(found, shares)
        self._check_training(trained, found)
        return Answer(tuple(found), _reason(taps, options))

    def _first_usable(
        self,
        names: list[str],
        axes: list[Any],
        untrained: set[str],
        found: list[Tap],
        *,
        is_certain: bool,
        must_exist: bool,
    ) -> Tap | None:
        """Return the first candidate that can be tapped and gives something new; None if all others are tapped.

        Raises:
            ValueError: no candidate can be tapped, although one must be.
        """
        problem: Exception | None = None
        for name in names:
            try:
                if name in untrained:
                    raise ValueError(
                        f"no gradient comes through the tap {name!r}, so its branch would train nothing: its output is "
                        "rounded, compared or detached, or computed in torch.no_grad() or "
                        "checkpoint(use_reentrant=True); tap others in taps=[...]"
                    )
                tap = self._tap(name, *axes)
            except (ValueError, TypeError) as error:
                problem = problem or error
                continue
            same = [other.name for other in found if tap.name == other.name or self._give_the_same(tap, other)]
            if not same or (is_certain and tap.name not in same):
                return tap
            if len(names) == 1:
                return None
        if len(names) == 1 or must_exist:
            raise problem or ValueError(names[0])
        return None

    # Which modules

    def _train(self, names: set[str]) -> Pass | None:
        """Return a pass in training mode with gradients, None if the network raises an error there."""
        try:
            return self.passes.probe.observe_training(self.passes.example, names)
        except CALL_ERRORS:
            # Batch norm of a single value, for one. The error returns in training if it is real.
            return None

    def _without_gradient(self, trained: Pass | None) -> set[str]:
        """Return the modules through which no gradient passes."""
        without = set()
        for name, outputs in {} if trained is None else trained.kept.items():
            features = list(map(self.passes.extract, outputs))
            if features and not any(isinstance(one, Tensor) and one.requires_grad for one in features):
                without.add(name)
        return without

    def _shares_of_output(self, names: list[str]) -> dict[str, float]:
        """Return, for each module, how much of a sample's effect on the output passes through it, at most 1.

        A module is given its output for the unaltered sample, while the rest of the network sees the altered one. The
        list ends at the first module through which everything passes.
        """
        altered = self.passes.first_altered
        base = self._tensors_of_prediction(self.passes.base.output)
        total = _distance(self._tensors_of_prediction(altered.output), base)
        shares: dict[str, float] = {}
        for name in dict.fromkeys(names[:CANDIDATES_TRIED]):
            patch = Patch({name: self.passes.base.kept[name]})
            try:
                done = self.passes.probe.observe(altered.example, edit=patch)
                left = _distance(self._tensors_of_prediction(done.output), base)
            except CALL_ERRORS:
                # The rows of its output may be others in another batch, such as tokens that are not padding.
                continue
            shares[name] = 1 - left / total if total > left else float(not left)
            if not left:
                break
        return shares

    def _tensors_of_prediction(self, output: Any) -> dict[Any, Tensor]:
        if isinstance(self.readout, Readout):
            return {(): self.readout.find(output)}
        return tensors_of(output if self.readout is None else self.readout(output))

    def _give_the_same(self, tap: Tap, other: Tap) -> bool:
        """Return whether one of two modules is inside the other, and both give the same."""
        nested = f"{tap.name}.".startswith(f"{other.name}.") or f"{other.name}.".startswith(f"{tap.name}.")
        if not nested:
            return False
        some, others = self.passes.features(tap.name), self.passes.features(other.name)
        return len(some) == len(others) and all(map(torch.equal, some, others))

    # Which axes

    def _tap(self, name: str, time_axis: TimeAxis | str, channel_axis: int | str) -> Tap:
        """Return a tap on a module, with its axes inferred."""
        self.passes.listen([name])
        features = self.passes.features(name)[0]
        if not isinstance(features, Tensor):
            raise TypeError(f"extract=... gives {type(features).__name__} of the tap {name!r}, not a tensor")
        self._check_calls(name)
        if time_axis == "auto":
            located = self._locate_samples(name, features)
        else:
            located = _Located(features, self.passes.extract, self.passes.extract, 1 if time_axis == 0 else 0)
        reason = "altering one sample" if time_axis == "auto" else f"time_axis={time_axis}"
        first = 2 if located.batch == 1 or located.unfolded or time_axis == 1 else 1
        axes = list(range(first, located.features.dim()))
        if channel_axis == "auto":
            channels = axes[0] if len(axes) == 1 else self._infer_channels(name, located, axes)
        else:
            channels = int(channel_axis) % located.features.dim()
            self._check_channels(name, located, axes, channels)
        if time_axis == "auto":
            time_axis = self._infer_time(name, located, channels)
        shape = tuple(located.features.shape)
        if len(shape) <= channels or not located.features.is_floating_point():
            raise ValueError(f"the tap {name!r} gives shape {shape}, which has no channels: tap another")
        extract = None if located.extract is first_tensor else located.extract
        return Tap(name, shape, time_axis, channels, self.events[name].calls, extract, reason)  # type: ignore[arg-type]

    def _check_calls(self, name: str) -> None:
        """Check that a module's calls are time steps, not the calls of several layers that share it."""
        event = self.events[name]
        layer_calls = {
            self.events[other].calls
            for other, module in named_modules(self.passes.probe.initial)
            if other in self.events and channel_axis_of(module, 4)
        }
        if not event.same_shape or (event.calls > 1 and layer_calls and event.calls not in layer_calls):
            raise ValueError(
                f"the tap {name!r} is called {event.calls} times in a pass, by several layers that share it: tap "
                "modules that these have for themselves, such as the containers around them, in taps=[...]"
            )

    def _locate_samples(self, name: str, features: Tensor) -> "_Located":
        """Return the features of a module with time and samples in axes of their own."""
        found, extract = place_of_samples(self.passes, name, features), self.passes.extract
        if not found.merged:
            return _Located(features, extract, extract, found.axis)
        time = 0 if found.merged == "time" else 1
        steps = total_steps(self.passes, lambda done: extract(done.kept[name][0]), [name])
        # The passes may hold fewer time steps than the example in full size.
        view = Unfold(features.shape[0] // self.passes.length, time, extract)
        return _Located(view(self.passes.base.kept[name][0]), view, Unfold(steps, time, extract), 1 - time, True)

    def _infer_channels(self, name: str, located: "_Located", axes: list[int]) -> int:
        view = located.view
        axis, width = infer_channel_axis(
            self.passes,
            lambda done: [view(output) for output in done.kept[name]],
            axes,
            before=self.events[name].end,
            listen=[name],
        )
        if axis is not None:
            return axis
        fitting = [axis for axis in axes if located.features.shape[axis] == width]
        if len(fitting) != 1:
            fitting = axes_unlike_input(self.passes, lambda done: view(done.kept[name][0]), axes, [name])
        if len(fitting) != 1:
            raise ValueError(
                f"the tap {name!r} gives shape {tuple(located.features.shape)}, whose channel axis remains open: pass "
                f"channel_axis={' or '.join(map(str, axes))}, or a list with one for each tap"
            )
        return fitting[0]

    def _check_channels(self, name: str, located: "_Located", axes: list[int], channels: int) -> None:
        """Check that the caller's channel axis is not an axis of the input, such as time."""
        if len(axes) < 2:
            return
        view = located.view
        fitting = axes_unlike_input(self.passes, lambda done: view(done.kept[name][0]), axes, [name])
        if len(fitting) == 1 and channels in axes and channels not in fitting:
            raise ValueError(
                f"the tap {name!r} gives shape {tuple(located.features.shape)}, whose axis {channels} is one of the "
                f"input's, such as time, while axis {fitting[0]} holds channels: pass channel_axis as a list, with one "
                "for each tap"
            )

    def _infer_time(self, name: str, located: "_Located", channels: int) -> TimeAxis:
        if located.unfolded:
            return 1 - located.batch
        if located.batch == 1:
            return 0
        one_call = self.events[name].calls == 1 and self.passes.probe.run is None
        if not one_call or channels <= 1:
            return None
        shape = primary(self.passes.example).shape
        like_input = self.passes.axis == 0 and len(shape) > 2 and located.features.shape[1] == shape[1]
        return 1 if located.features.dim() > 4 or like_input else None

    # Errors

    def _question_about_axes(self, name: str) -> str:
        network = type(self.passes.probe.initial).__name__
        return (
            f"the axes of time and channels in {network} remain open: {name}, for one, gives shape "
            f"{self.events[name].shape}; pass time_axis=... and channel_axis=..., or taps=[...] with names of "
            "other submodules, and extract=... for their features, as in lambda y: y.unflatten(0, (4, -1, 3)) where 4 "
            "time steps, samples and 3 variables share an axis"
        )

    def _check_training(self, trained: Pass | None, taps: Sequence[Tap]) -> None:
        """Check that taps and readout give the same shapes in training mode, where some networks return more."""
        if trained is None:
            return
        for tap in taps:
            expected = tuple(self.passes.features(tap.name)[0].shape)
            calls = trained.kept[tap.name]
            shape = tuple(self.passes.extract(calls[0]).shape) if calls else ()
            if shape != expected:
                raise ValueError(
                    f"the tap {tap.name!r} gives shape {shape} in training and {expected} in evaluation: pass "
                    f"extract=..., which returns the part of shape {expected}, as in lambda y: y[:{expected[0]}], or "
                    "tap another in taps=[...]"
                )
        try:
            expected, shape = (
                tuple((output if self.readout is None else self.readout(output)).shape)
                for output in (self.passes.base.output, trained.output)
            )
        except CALL_ERRORS as error:
            raise ValueError(f"{error}; this is so in training alone") from error
        if shape != expected:
            raise ValueError(
                f"the network gives logits of shape {shape} in training and {expected} in evaluation: pass "
                "readout=..., which maps the output of either to logits [N, classes]"
            )


@dataclass(frozen=True)
class _Located:
    """The features of a tap, and the axis of samples in them.

    Args:
        features: of the first call in the unaltered pass.
        view: maps a module's output to its features, in the passes.
        extract: likewise, for batches of the example's full size.
        batch: the axis of samples.
        unfolded: whether time and samples shared an axis.
    """

    features: Tensor
    view: Extract
    extract: Extract
    batch: int
    unfolded: bool = False


def time_lengths(
    passes: SamplePasses, names: Sequence[str], neurons: Sequence[str], loop: TimeLoop | None, time_axis: Any
) -> set[int]:
    """Return the numbers of time steps that occur: in the input, in modules that may be tapped, and in calls."""
    shape = primary(passes.example).shape
    events = passes.probe.trace.events
    lengths = {events[name].calls for name in (*names, *neurons) if name in events} - {1}
    if loop is not None:
        lengths.add(loop.steps or shape[loop.axis])
    elif passes.axis == 0 and len(shape) > 2:
        lengths.add(shape[1])
    for name, axis in zip(names, one_per_tap(time_axis, len(names), "time axes"), strict=True):
        features = passes.features(name)[0]
        if not isinstance(features, Tensor):
            continue
        if axis != "auto":
            lengths |= set() if axis is None or features.dim() <= axis else {features.shape[axis]}
            continue
        axes = passes.prefer_unmerged(passes.axes_of_module(name), features)
        if len(axes) == 1 and axes[0].merged:
            lengths.add(features.shape[axes[0].axis] // passes.length)
        elif len(axes) == 1 and (axes[0].axis == 1 or (features.dim() > 4 and loop is None)):
            lengths.add(features.shape[1 - axes[0].axis])
    return lengths


def _on_trunk(taps: list[Tap], shares: dict[str, float]) -> list[Tap]:
    """Return the taps that carry at least half as much of the output as the best, and at least the two best."""
    order = sorted((shares.get(tap.name, 1) for tap in taps), reverse=True)
    lower_bound = min(order[0] / 2, order[:2][-1])
    return [tap for tap in taps if shares.get(tap.name, 1) >= lower_bound]


def _distance(some: dict[Any, Tensor], others: dict[Any, Tensor]) -> float:
    """Return the L1 distance between tensors of the same keys and shapes, infinite for others."""
    if some.keys() != others.keys() or any(one.shape != others[key].shape for key, one in some.items()):
        return float("inf")
    differences = ((one.double() - others[key].double()).abs().nan_to_num(0, 0, 0) for key, one in some.items())
    return sum(difference.sum().item() for difference in differences)


def _reason(taps: str | int | Sequence[str], options: list[list[str]]) -> str:
    if not options:
        return "taps=[]" if taps != "auto" else "no place for a branch"
    if taps == "auto":
        certain = all(len(names) == 1 for names in options)
        return "the ends of its stages but the last" if certain else f"up to {DEFAULT_TAPS} places, evenly spread"
    return f"taps={taps!r}" if isinstance(taps, str | int) else "your taps=[...]"
