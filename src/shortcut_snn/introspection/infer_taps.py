"""Inference of the taps: which submodules are tapped, and which axes of their outputs hold time and channels.

Where the caller names no places, they are the ends of stages or of blocks, or every k-th neuron or layer. A place can
be tapped if a gradient passes through it, and if its axes can be inferred.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .._utils.calls import primary
from ..method import Tap
from ..method.placement import resolve, stages
from ..method.taps import Extract, TimeAxis, Unfold, first_tensor
from .answer import Answer, OpenQuestion
from .infer_batch_axis import Samples
from .layers import has_weights, holds_matrix, is_layer
from .probe import GradientPaths
from .recorder import Event

_DEFAULT_TAPS = 3
_NUMBERED = re.compile(r"(^|block|layer|stage)s?[._]?\d+$", re.IGNORECASE)
# A longer row of numbered modules is a row of blocks, of which a few will do.
_MAX_STAGES = 6


class _OpenChannelsError(ValueError):
    """The channel axis of a tap remains open."""


@dataclass(frozen=True)
class _Located:
    """The features of a tap's first call, how they are extracted, and their axis of samples."""

    features: Tensor
    extract: Extract
    batch: int
    unfolded: bool = False
    """Whether time and samples shared an axis."""


@dataclass(frozen=True)
class TapInference:
    """The inference of the taps; with ``every_step``, branches predict every time step."""

    samples: Samples
    paths: GradientPaths
    neurons: Sequence[str]
    every_step: bool = False

    @property
    def _network(self) -> nn.Module:
        return self.samples.probe.initial

    @property
    def _events(self) -> dict[str, Event]:
        return self.samples.probe.base.events

    def infer(self, taps: str | int | Sequence[str], time_axis: Any, channel_axis: Any) -> Answer[tuple[Tap, ...]]:
        """Infer the taps; ask about axes that remain open."""
        if isinstance(taps, int) and taps < 0:
            raise ValueError(f"taps must be a number of branches, a placement or a list of names, got {taps}")
        if taps == 0 or (not isinstance(taps, str | int) and not taps):
            return Answer((), f"taps={taps}")
        reason = f"taps={taps!r}" if isinstance(taps, str | int) else "your taps=[...]"
        if taps == "auto" and (names := list(filter(self.paths.trains, self._stage_ends()))):
            reason = "the ends of its stages but the last"
        elif taps == "auto":
            names, reason = self._spread(_DEFAULT_TAPS, 1), f"up to {_DEFAULT_TAPS} places, evenly spread"
        elif isinstance(taps, int):
            names = self._spread(taps, taps)
        else:
            names = self._named_places(taps)
            # Of a placement, those that train something.
            names = list(filter(self.paths.trains, names)) or names if isinstance(taps, str) else names
        return Answer(self._all(names, time_axis, channel_axis), reason)

    # Which places

    def _named_places(self, taps: str | Sequence[str]) -> list[str]:
        """Return the modules that the caller names, or those of a placement."""
        places = [self._called_stand_in(name) for name in resolve(self._network, taps)]
        for name in places:
            if name not in self._events:
                raise ValueError(
                    f"the tap {name!r} is not called in a pass of the example: name another, or pass taps=3 for three "
                    "evenly spread taps"
                )
        return places

    def _stage_ends(self) -> list[str]:
        """Return the ends of a network's stages, all but the last; none if no stages span most of its layers."""
        names = stages(self._network)
        if getattr(self._network, "stage_names", None) is not None:
            return [self._called_stand_in(name) for name in names[:-1]]
        # A stem and a head need not be in a stage.
        return self._longest_row(names, _MAX_STAGES, outside=2)

    def _spread(self, number: int, min_length: int) -> list[str]:
        """Return places that can be tapped, evenly spread over the first row that has enough of them."""
        if rows := self._rows():
            row = next((row for row in rows if len(row) >= min_length), max(rows, key=len))
            number = min(number, len(row))
            # Two of five places are the second and the fourth.
            depths = [(index + 1) * (len(row) + 1) / (number + 1) for index in range(number)]
            return [row[math.ceil(depth - 0.5) - 1] for depth in depths]
        name = type(self._network).__name__
        if not any(self._events):
            raise ValueError(
                f"{name} does not call any submodule, so there is no output to tap: keep its layers in submodules and "
                "call these, as in self.layer(x), or pass taps=[]"
            )
        raise ValueError(
            f"no gradient comes from a submodule of {name}, with known axes, to weights that are trained: let weights "
            "before the last layer require gradients, call checkpoint with use_reentrant=False, name taps=[...] or "
            "pass taps=[]"
        )

    def _rows(self) -> list[list[str]]:
        """Return rows of places that can be tapped: the ends of blocks, neurons, the ends of layers.

        The last place of each is left out: it is the network's output, or leads to it. An only neuron stays if a layer
        follows it.
        """
        blocks = self._longest_row([name for name, _ in nn.Module.named_modules(self._network)], len(self._events))
        spiking = self._called_neurons
        last_layer = max((self._events[name].begin for name in self._layers), default=0)
        is_hidden = len(spiking) == 1 and self._events[spiking[0]].end <= last_layer
        rows = (blocks, spiking if is_hidden else spiking[:-1], self._layer_ends())
        return [places for row in rows if (places := list(filter(self._is_usable, row)))]

    @cached_property
    def _layers(self) -> list[str]:
        modules = nn.Module.named_modules(self._network)
        return [name for name, module in modules if is_layer(module) and name in self._events]

    @cached_property
    def _called_neurons(self) -> list[str]:
        return [name for name in self._events if name in self.neurons]

    def _called_stand_in(self, name: str) -> str:
        """Return a module's name; for a container that is never called, as a ``ModuleList``, its last called child."""
        inside = _inside(name, self._events)
        return name if name in self._events or not inside else inside[-1]

    def _longest_row(self, names: Sequence[str], max_length: int, outside: int = 0) -> list[str]:
        """Return the ends of the longest row of numbered siblings, all but the last, which span most layers.

        Each holds a layer and, in a network with neurons, a neuron.
        """
        siblings: dict[tuple[str, str], list[str]] = {}
        for name in names:
            parent, _, last = name.rpartition(".")
            if _NUMBERED.search(last):
                siblings.setdefault((parent, re.sub(r"[._]?\d+$", "", last)), []).append(name)
        longest = list[str]()
        for group in siblings.values():
            # An empty stage is a placeholder. A single layer among blocks is none, nor is one in a container.
            row = [name for name in group if not self.neurons or _inside(name, self._called_neurons)]
            held = {name: layers for name in row if (layers := _inside(name, self._layers))}
            spans_most = sum(map(len, held.values())) * 2 >= len(self._layers) - outside
            if len(longest) < len(held) <= max_length and len(held) > 1 and spans_most:
                longest = list(held)
        ends = set(map(self._called_stand_in, longest))
        return [name for name in self._events if name in ends][:-1]

    def _layer_ends(self) -> list[str]:
        """Return, for each layer, the last usable module before the next layer; the last such module only if alone."""
        events, modules = self._events, dict(nn.Module.named_modules(self._network))
        layers, ends = sorted((events[name] for name in self._layers), key=lambda event: event.begin), list[str]()
        for layer, later in pairwise(layers):
            names = [
                name
                for name, event in events.items()
                if name and layer.end <= event.end < later.begin and len(event.shape or ()) > 1
                # A norm of its own for each time step would give its branch that step alone.
                if event.calls >= layer.calls and self._is_usable(name)
                if not isinstance(modules[name], nn.Flatten | nn.Dropout)
            ]
            ends += names[-1:]
        ends = list(dict.fromkeys(ends)) or [name for name in events if name][:1]
        return ends[:-1] or ends

    def _is_usable(self, name: str) -> bool:
        try:
            self._tap(name, "auto", "auto")
        except (ValueError, TypeError):
            return False
        return True

    # Which axes

    def _all(self, names: Sequence[str], time_axis: Any, channel_axis: Any) -> tuple[Tap, ...]:
        """Return the taps at named places; one question for all of their axes that remain open."""
        times = _one_per_tap(time_axis, len(names), "time axes")
        channels = _one_per_tap(channel_axis, len(names), "channel axes")
        taps, questions = list[Tap](), dict[str, tuple[str, str]]()
        for name, time, channel in zip(names, times, channels, strict=True):
            try:
                taps.append(self._tap(name, time, channel))
            except _OpenChannelsError as error:
                questions[name] = error.args
        if questions:
            asked = ", ".join(questions.get(name, ("", "'auto'"))[1] for name in names)
            raise OpenQuestion(
                f"the channel axis of {', '.join(shape for shape, _ in questions.values())} is unknown: pass "
                f"channel_axis=[{asked}], one for each of the taps {', '.join(names)}"
            )
        self._check_training(taps)
        return tuple(taps)

    def _tap(self, name: str, time_axis: TimeAxis | str, channel_axis: int | str) -> Tap:
        """Return a tap on a module, with its axes inferred."""
        if not self.paths.trains(name):
            raise ValueError(
                f"no gradient comes through the tap {name!r}, so its branch would train nothing: no weights "
                "before it require gradients, or its output is rounded, compared or detached, computed in "
                "torch.no_grad() or checkpoint(use_reentrant=True); tap others in taps=[...]"
            )
        extract = self.samples.probe.extract_of(name)
        features = extract(self.samples.probe.base.outputs[name][0])
        if not isinstance(features, Tensor):
            raise TypeError(f"extract=... gives {type(features).__name__} of the tap {name!r}, not a tensor")
        self._check_calls(name)
        if time_axis == "auto":
            located = self._locate_samples(name, features, extract)
        else:
            located = _Located(features, extract, 1 if time_axis == 0 else 0)
        first = 2 if located.batch == 1 or located.unfolded or time_axis == 1 else 1
        shape = tuple(located.features.shape)
        axes = list(range(first, len(shape)))
        if not axes or not located.features.is_floating_point():
            raise ValueError(f"the tap {name!r} gives shape {shape}, which has no channels: tap another")
        channels = self._channels(name, located, axes, channel_axis)
        if time_axis == "auto":
            time_axis = self._infer_time(name, located, channels)
        if self.every_step and time_axis is None and self._events[name].calls == 1:
            raise ValueError(
                f"the tap {name!r} gives shape {shape} in one call, without an axis of time for a branch that predicts "
                "every step: pass time_axis=..., or tap another in taps=[...]"
            )
        own = None if located.extract is first_tensor else located.extract
        return Tap(name, time_axis, channels, own, shape, self._events[name].calls)  # type: ignore[arg-type]

    def _check_calls(self, name: str) -> None:
        """Check that a module's calls are time steps, not the calls of several layers that share it."""
        event, modules = self._events[name], nn.Module.named_modules(self._network)
        weighted = [other for other, module in modules if has_weights(module) or holds_matrix(module)]
        if not event.same_shape or not event.is_stepped([self._events[one] for one in weighted if one in self._events]):
            raise ValueError(
                f"the tap {name!r} is called {event.calls} times in a pass, by several layers that share it: name "
                "modules in taps=[...] that are not shared, such as the containers around these layers"
            )

    def _locate_samples(self, name: str, features: Tensor, extract: Extract) -> _Located:
        """Return the features of a module with time and samples in axes of their own."""
        places = self.samples.prefer_unmerged(self.samples.axes_of_module(name), features)
        shape = tuple(features.shape)
        if len(places) != 1:
            problem = "may hold samples along several axes" if places else "mixes samples"
            raise OpenQuestion(
                f"the tap {name!r} gives shape {shape}, which {problem}: pass time_axis=0 for [T, N, ...], 1 for "
                "[N, T, ...] or None for [N, ...], and channel_axis=...; or tap another in taps=[...]"
            )
        axis, merged = places[0].axis, places[0].merged
        if axis > (0 if merged else 1):
            raise ValueError(
                f"the tap {name!r} gives shape {shape} with its samples along axis {axis}: pass extract=..., "
                f"as in lambda y: y.movedim({axis}, 0), and time_axis=None"
            )
        if not merged:
            return _Located(features, extract, axis)
        time = 0 if merged == "time" else 1
        unfold = Unfold(len(features) // self.samples.length, time, extract)
        return _Located(replace(unfold, extract=first_tensor)(features), unfold, 1 - time, unfolded=True)

    def _channels(self, name: str, located: _Located, axes: list[int], asked: int | str) -> int:
        """Return the channel axis: the inferred one, or the caller's, which must not contradict it."""
        shape, inferred = tuple(located.features.shape), self._infer_channels(name, located, axes)
        if inferred is None and not isinstance(asked, int):
            raise _OpenChannelsError(f"{name!r} of shape {shape}", " or ".join(map(str, axes)))
        channels = inferred if not isinstance(asked, int) else asked % len(shape)
        if inferred not in (None, channels):
            raise ValueError(
                f"the tap {name!r} gives shape {shape}, whose axis {inferred} holds channels, not axis {asked}: "
                "pass channel_axis as a list, with an axis or 'auto' for each tap"
            )
        assert channels is not None
        return channels

    def _infer_channels(self, name: str, located: _Located, axes: list[int]) -> int | None:
        """Return the axis along which different channels of the layers before change different indices."""
        if len(axes) == 1:
            return axes[0]
        # Time and samples were one axis before they were unfolded.
        shift = int(located.unfolded)
        first, second = (done.changes.get(name) for done in self.samples.probe.channel_passes)
        if first is not None and second is not None:
            apart = [axis for axis in axes if first[axis - shift].isdisjoint(second[axis - shift])]
            if len(apart) == 1:
                return apart[0]
        # Layers of the network's own have no known channels. An axis of the input, such as time, holds none.
        shape = self.samples.features(name)[0].shape
        rest = [
            axis for axis in axes if not self.samples.is_time(lambda done: done.changes.get(name), shape, axis - shift)
        ]
        return rest[0] if len(rest) == 1 else None

    def _infer_time(self, name: str, located: _Located, channels: int) -> TimeAxis:
        if located.unfolded:
            return 1 - located.batch
        if located.batch == 1:
            return 0
        probe = self.samples.probe
        if self._events[name].calls > 1 or probe.run is not None or channels <= 1:
            return None
        example = primary(probe.base.example)
        # Two axes of words are samples and time, and of numbers samples and features.
        is_sequence = example.dim() > (2 if example.is_floating_point() else 1)
        like_input = self.samples.axis == 0 and is_sequence and located.features.shape[1] == example.shape[1]
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


def _one_per_tap(value: Any, taps: int, what: str) -> list[Any]:
    """Return a list with one value per tap, from such a list or from one value for all."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * taps
    if len(values) != taps:
        raise ValueError(f"{taps} taps need as many {what}, got {len(values)}")
    return values


def _inside(name: str, others: Iterable[str]) -> list[str]:
    """Return the names of the modules inside a module."""
    return [other for other in others if other.startswith(f"{name}.")]
