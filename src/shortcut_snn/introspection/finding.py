"""How a network is laid out: told by passes through copies of it in which one sample, or one channel, is another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..method import (
    PLACEMENTS,
    Extract,
    Layout,
    Reset,
    Tap,
    TimeAxis,
    TimeLoop,
    Unfold,
    first_tensor,
    one_per_tap,
    primary,
    resolve,
)
from .calling import who_calls
from .libraries import libraries_of
from .logits import find_readout, logits_of
from .perturb import resized
from .probing import UNFIT, Pass, Prober, channel_axis_of, named
from .samples import FEW, MANY, TRIED, Samples, leaves_of
from .sites import learning, spread, stage_taps, stand_in
from .states import changed_attributes, find_reset, own_reset


class Finder:
    """Finds out about a network; in this order, since each needs the ones before: loop, reset, batch, taps, readout."""

    def __init__(
        self,
        network: nn.Module,
        example: Any,
        loop: str | int,
        batch_axis: int | str,
        reset: Reset | str | None,
        extract: Extract | None,
        samples: int | None = None,
    ) -> None:
        self.network, self.full = network, example
        self.extract = first_tensor if extract is None else extract
        self.libraries = libraries_of(network)
        # From rest, so far as that is known: somebody may have run the network before.
        rest = own_reset(self.libraries) if isinstance(reset, str) else reset
        self.run, rest = who_calls(network, self.libraries, loop, batch_axis, example, rest, samples)
        self.prober = Prober(network, example, self.run, rest)
        self._shrink(0)
        self.reset, self.reset_why = find_reset(self.prober, self.libraries, reset)
        if self.reset is not None:
            self.reset(self.prober.rest)
        self.trace = self.prober.go()
        self.neurons = self._neurons()
        self.samples = Samples(self.prober, example, batch_axis, self.extract, self.trace, samples)

    def describe(
        self,
        taps: str | int | Sequence[str],
        time_axis: Any,
        channel_axis: Any,
        readout: Extract | str | None,
        num_classes: int | None,
        labels: Tensor | None = None,
    ) -> Layout:
        """Return what is found."""
        options = self._candidates(taps)
        self.samples.find([one[0] for one in options])
        times, channels = (
            one_per_tap(time_axis, len(options), "time axes"),
            one_per_tap(channel_axis, len(options), "channel axes"),
        )
        found: list[Tap] = []
        trained = self._train({name for names in options for name in names})
        dead = self._without_gradient(trained)
        options = [[name for name in names if name not in dead] or names for names in options]
        carried: dict[str, float] = {}
        for names, time, channel in zip(options, times, channels, strict=True):
            problem: Exception | None = None
            chosen = len(names) == 1
            if not chosen:
                # First what all that comes out goes through, or most of it.
                shares = self._carried(names, readout, num_classes)
                carried |= shares
                names = sorted(dict.fromkeys(names[:TRIED]), key=lambda name: -shares.get(name, 0))
            for name in names:
                try:
                    if name in dead:
                        raise ValueError(
                            f"no gradient comes through the tap {name!r}, so its branch would train nothing: what it "
                            "gives is compared, rounded or detached, or computed in torch.no_grad() or "
                            "checkpoint(use_reentrant=True); tap others in taps=[...]"
                        )
                    tap = self._tap(name, time, channel)
                except (ValueError, TypeError) as error:
                    problem = problem or error
                    continue
                same = [other.name for other in found if tap.name == other.name or self._gives_the_same(tap, other)]
                if not same or (chosen and tap.name not in same):
                    found.append(tap)
                elif len(names) > 1:
                    continue
                break
            else:
                # Of places that nobody named, some may do.
                if len(names) == 1 or not set().union(*options) - dead:
                    raise problem or ValueError(names[0])
        if options and not found:
            name = options[0][0]
            raise ValueError(
                f"where time and channels lie is not told by {type(self.network).__name__}: {name}, for one, gives "
                f"{self.trace.events[name].shape}; say it with time_axis=... and channel_axis=..., or pass taps=[...] "
                "with names of other submodules, and extract=... for what is a feature in what they give, as in lambda "
                "y: y.unflatten(0, (4, -1, 3)) where 4 time steps, samples and 3 variables share an axis"
            )
        if found and not isinstance(taps, int):
            # Where nobody said how many, there are branches beside the trunk only where there are no two on it.
            order = sorted((carried.get(tap.name, 1) for tap in found), reverse=True)
            found = [tap for tap in found if carried.get(tap.name, 1) >= min(order[0] / 2, order[:2][-1])]
        chosen, width, shape = find_readout(
            self.samples, readout, num_classes, time_axis, lambda: self._lengths(found), labels
        )
        if trained is not None:
            self._check_training(trained, found, chosen)
        return self.described(tuple(found), chosen, width, shape)

    def described(
        self, taps: tuple[Tap, ...], readout: Any, width: int, shape: tuple[int, ...] | None = None
    ) -> Layout:
        """Return what is known, with these taps and this readout."""
        given = primary(self.full).shape
        time: int | None = None
        # A tap may lie where time has been summed already.
        steps = next((tap.calls for tap in taps if tap.calls > 1), None) or max(
            (tap.shape[tap.time_axis] for tap in taps if tap.time_axis is not None), default=None
        )
        if isinstance(self.run, TimeLoop):
            time = None if self.run.steps is not None else self.run.axis
            steps = self.run.steps or given[self.run.axis]
        elif self.samples.batch_axis == 1:
            time, steps = 0, given[0]
        elif len(given) > 2 and any(tap.time_axis == 1 and tap.shape[1] == given[1] for tap in taps):
            time, steps = 1, given[1]
        known = " and ".join(library.name for library in self.libraries)
        return Layout(
            known or ("neurons of its own" if self.neurons else "plain PyTorch"),
            self.run,
            self.reset,
            self.samples.batch_axis,
            time,
            steps,
            readout,
            width,
            taps,
            shape,
            {"reset": self.reset_why},
        )

    # What is tapped

    def _neurons(self) -> list[str]:
        known = [name for library in self.libraries for name in library.neurons(self.network)]
        if known:
            return known
        modules = dict(named(self.prober.rest))
        places = {name for name, _ in changed_attributes(self.prober) if name and self.reset is not None}
        return [name for name in modules if name in places and name in self.trace.events]

    def _candidates(self, taps: str | int | Sequence[str]) -> list[list[str]]:
        """For each branch, the modules that it may be behind, the best first."""
        events = self.trace.events
        if isinstance(taps, int):
            if taps < 0:
                raise ValueError(f"taps must be a number of branches, a placement or a list of names, got {taps}")
            return self._spread(taps)
        if taps == "auto":
            places = learning(self.network, events)
            staged = [name for name in stage_taps(self.network, events, self.neurons) if name in places]
            return [[name] for name in staged] or self._spread(FEW)
        if isinstance(taps, str) and taps in PLACEMENTS:
            try:
                names = resolve(self.network, taps)
            except ValueError as error:
                raise ValueError(f"{self._no_stages()} or taps=3 for so many, evenly spread") from error
        else:
            names = resolve(self.network, taps)
        chosen = [stand_in(self.network, name, events) for name in names]
        for name in chosen:
            if name not in events:
                raise ValueError(
                    f"the tap {name!r} is not called in a pass of the example: tap another, as in taps=3 for three "
                    "that are, evenly spread"
                )
        return [[name] for name in chosen]

    def _spread(self, number: int) -> list[list[str]]:
        options: list[list[str]] = []
        for events in (learning(self.network, self.trace.events), self.trace.events) if number else ():
            options = options or list(spread(self.network, events, self.neurons, number))
        if number and not options:
            raise ValueError(f"{self._no_stages()}; or taps=[] for none")
        return [names if len(names) > 1 else names * 2 for names in options]

    def _carried(self, names: list[str], readout: Extract | str | None, classes: int | None) -> dict[str, float]:
        """Of modules that could be tapped, how much of a change of a sample comes out through each, at most 1.

        Where all of it goes through one, those behind it in the list are left out.
        """

        def read(output: Any) -> dict[Any, Tensor]:
            return leaves_of(readout(output) if callable(readout) else output)

        view = logits_of(self.samples, classes) if isinstance(readout, str) else read
        altered = next(iter(self.samples.altered.values()))
        base = view(self.samples.base.output)
        whole = _distance(view(altered.output), base)
        shares: dict[str, float] = {}
        for name in dict.fromkeys(names[:TRIED]):
            self.samples.ensure(name)
            try:
                patched = view(self.prober.go(altered.example, patch={name: self.samples.base.kept[name]}).output)
                left = _distance(patched, base)
            except UNFIT:
                # Its rows may be other ones in another batch, such as those that are not padded.
                continue
            shares[name] = 1 - left / whole if whole > left else float(not left)
            if not left:
                break
        return shares

    def _gives_the_same(self, tap: Tap, other: Tap) -> bool:
        """Whether one of two modules is a container of the other that gives what this gives."""
        within = f"{tap.name}.".startswith(f"{other.name}.") or f"{other.name}.".startswith(f"{tap.name}.")
        some, others = self.samples.base.kept[tap.name], self.samples.base.kept[other.name]
        return (
            within
            and len(some) == len(others)
            and all(map(torch.equal, map(self.extract, some), map(self.extract, others)))
        )

    def _train(self, names: set[str]) -> Pass | None:
        """A pass in training, with gradients, in which modules are listened to; None where there is none."""
        try:
            return self.prober.go(self.samples.base.example, listen=names, training=True, gradients=True)
        except UNFIT:
            # Such as batch norm of a single value; the error comes again, in training, if it is one.
            return None

    def _without_gradient(self, trained: Pass | None) -> set[str]:
        """Of the modules listened to, those through which no gradient can come."""
        told = {} if trained is None else {name: list(map(self.extract, given)) for name, given in trained.kept.items()}
        return {
            name
            for name, given in told.items()
            if given and not any(isinstance(one, Tensor) and one.requires_grad for one in given)
        }

    def _no_stages(self) -> str:
        likely = self.neurons or [name for name in self.trace.events if name]
        shown = ", ".join(likely[:20]) + (", ..." if len(likely) > 20 else "")
        what = f"some of its {self.libraries[0].name} neurons" if self.libraries else "some of"
        return (
            f"{type(self.network).__name__} has no submodules named layer1, layer2, ... to put branches behind; pass "
            f"taps=[...] with names of submodules, such as {what}: {shown}"
        )

    # Where samples are

    def _shrink(self, axis: int) -> None:
        """A few samples tell as much as many, if the network takes them."""
        shape = primary(self.prober.example).shape
        if len(shape) > axis and shape[axis] > 2 * MANY:
            small = resized(self.prober.example, axis, MANY)
            try:
                self.prober.go(small)
            except UNFIT:
                return
            self.prober.example = small

    # Axes

    def _tap(self, name: str, time_axis: TimeAxis | str, channel_axis: int | str) -> Tap:
        self.samples.ensure(name)
        event = self.trace.events[name]
        features = self.extract(self.samples.base.kept[name][0])
        if not isinstance(features, Tensor):
            raise TypeError(f"extract=... gives {type(features).__name__} of the tap {name!r}, not a tensor")
        layers = {
            self.trace.events[n].calls
            for n, m in named(self.network)
            if n in self.trace.events and channel_axis_of(m, 4)
        }
        if not event.alike or (event.calls > 1 and layers and event.calls not in layers):
            raise ValueError(
                f"the tap {name!r} is called {event.calls} times in a pass, by several layers that share it: tap "
                "modules that these have for themselves, such as the containers around them or the layers behind "
                "which it is called, in taps=[...]"
            )
        extract = None if self.extract is first_tensor else self.extract
        why = "as you said"
        folded, view = False, self.extract
        if time_axis == "auto":
            place = self.samples.place(
                name, features, "time_axis=0 for [T, N, ...], 1 for [N, T, ...] or None for [N, ...]"
            )
            batch, folded = place.axis, place.folded is not None
            if folded:
                axis = 0 if place.folded == "time" else 1
                batch = 1 - axis
                steps = self.samples.steps(lambda done: self.extract(done.kept[name][0]), [name])
                extract = Unfold(steps, axis, self.extract)
                # Of the probe's batch, which may hold fewer steps than the example.
                view = Unfold(features.shape[0] // self.samples.length, axis, self.extract)
                features = view(self.samples.base.kept[name][0])
            why = "one sample of the input changed"
        else:
            batch = 1 if time_axis == 0 else 0
        rest = list(range(2 if batch == 1 or folded or time_axis == 1 else 1, features.dim()))
        if channel_axis == "auto":
            channels = rest[0] if len(rest) == 1 else self._channels(name, features, rest, view)
        else:
            channels = int(channel_axis) % features.dim()
            others = self.samples.not_along(lambda done: view(done.kept[name][0]), rest, [name]) if rest[1:] else []
            if len(others) == 1 and channels in rest and channels not in others:
                raise ValueError(
                    f"the tap {name!r} gives shape {tuple(features.shape)}, whose axis {channels} is one of the "
                    f"input's, such as time, and holds no channels, as axis {others[0]} does: pass channel_axis as a "
                    "list, with one for each tap"
                )
        if time_axis == "auto":
            time_axis = 0 if batch == 1 else None
            if folded:
                time_axis = 1 - batch
            elif batch == 0 and event.calls == 1 and self.run is None and channels > 1:
                shape = primary(self.samples.base.example).shape
                beside = self.samples.batch_axis == 0 and len(shape) > 2 and features.shape[1] == shape[1]
                time_axis = 1 if features.dim() > 4 or beside else None
        if features.dim() <= channels or not features.is_floating_point():
            raise ValueError(
                f"the tap {name!r} gives shape {tuple(features.shape)}, which has no channels: tap another"
            )
        return Tap(name, tuple(features.shape), time_axis, channels, event.calls, extract, why)  # type: ignore[arg-type]

    def _channels(self, name: str, features: Tensor, rest: list[int], view: Extract) -> int:
        end = self.trace.events[name].end
        found, width = self.samples.class_axis(lambda done: [view(o) for o in done.kept[name]], rest, end, [name])
        if found is not None:
            return found
        alike = [axis for axis in rest if features.shape[axis] == width]
        if len(alike) != 1:
            alike = self.samples.not_along(lambda done: view(done.kept[name][0]), rest, [name])
        if len(alike) == 1:
            return alike[0]
        raise ValueError(
            f"the tap {name!r} gives shape {tuple(features.shape)}, and which axis holds channels is not told by a "
            f"layer: pass channel_axis={' or '.join(map(str, rest))}, or a list with one for each tap"
        )

    # What is predicted

    def _lengths(self, taps: Sequence[Tap]) -> set[int]:
        """How many time steps there are, so far as that is known."""
        shape = primary(self.samples.base.example).shape
        found = {tap.shape[tap.time_axis] for tap in taps if tap.time_axis is not None}
        found |= {tap.calls for tap in taps if tap.calls > 1}
        found |= {self.trace.events[name].calls for name in self.neurons if name in self.trace.events} - {1}
        if isinstance(self.run, TimeLoop):
            found.add(self.run.steps or shape[self.run.axis])
        elif self.samples.batch_axis == 0 and len(shape) > 2:
            found.add(shape[1])
        return found

    def _check_training(self, done: Pass, taps: Sequence[Tap], readout: Any) -> None:
        """In training a network may give something else, such as heads of its own beside the logits."""
        for tap in taps:
            expected = tuple(self.extract(self.samples.base.kept[tap.name][0]).shape)
            found = tuple(self.extract(done.kept[tap.name][0]).shape) if done.kept[tap.name] else ()
            if found != expected:
                raise ValueError(
                    f"the tap {tap.name!r} gives shape {found} in training and {expected} in evaluation: pass "
                    f"extract=..., which returns the part of shape {expected}, as in lambda y: y[:{expected[0]}], or "
                    "tap another in taps=[...]"
                )
        try:
            expected = tuple((self.samples.base.output if readout is None else readout(self.samples.base.output)).shape)
            found = tuple((done.output if readout is None else readout(done.output)).shape)
        except UNFIT as error:
            raise ValueError(f"{error}; this is so in training alone") from error
        if found != expected:
            raise ValueError(
                f"the network gives logits of shape {found} in training and {expected} in evaluation: pass "
                "readout=..., which takes the output of either and returns logits [N, classes]"
            )


def _distance(some: dict[Any, Tensor], others: dict[Any, Tensor]) -> float:
    """How far apart tensors are, those of each key; infinite where they are not comparable."""
    if some.keys() != others.keys() or any(one.shape != others[path].shape for path, one in some.items()):
        return float("inf")
    return sum(
        (one.double() - others[path].double()).abs().nan_to_num(0, 0, 0).sum().item() for path, one in some.items()
    )
