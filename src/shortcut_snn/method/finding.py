"""How a network is laid out: told by passes through copies of it in which one sample, or one channel, is another."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from .calling import who_calls
from .description import Description, Tap
from .libraries import Reset, libraries_of
from .probing import UNFIT, Injection, Pass, Place, Prober, changes, channel_axis_of, named, places, primary, resized
from .readout import Readout, entries
from .sites import spread, stage_taps, stand_in
from .states import changed_attributes, find_reset, own_reset
from .taps import PLACEMENTS, Extract, TimeAxis, Unfold, each, first_tensor, resolve
from .time_loop import TimeLoop

_LOGITS = ("logits", "output", "outputs", "out", "prediction", "predictions", "pred", "y_hat", "cls", "main")
_FEW, _MANY, _TRIED = 3, 4, 5


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
        self.network, self.full, self.given_batch = network, example, batch_axis
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
        self.batch_axis: int | None = None
        self.length, self.mixing = 0, False
        self.base, self.altered = Pass(), dict[int, Pass]()

    def describe(
        self,
        taps: str | int | Sequence[str],
        time_axis: Any,
        channel_axis: Any,
        readout: Extract | str | None,
        num_classes: int | None,
    ) -> Description:
        """Return what is found."""
        options = self._candidates(taps)
        self.find_batch([one[0] for one in options])
        times, channels = each(time_axis, len(options), "time axes"), each(channel_axis, len(options), "channel axes")
        found: list[Tap] = []
        dead = self._without_gradient({name for names in options for name in names})
        options = [[name for name in names if name not in dead] or names for names in options]
        for names, time, channel in zip(options, times, channels, strict=True):
            problem: Exception | None = None
            for name in self._trunk_first(names):
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
                if tap.name not in [other.name for other in found]:
                    found.append(tap)
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
        chosen, width = self._readout(readout, num_classes, time_axis, found)
        self._check_training(found, chosen)
        return self.described(tuple(found), chosen, width)

    def described(self, taps: tuple[Tap, ...], readout: Any, width: int) -> Description:
        """Return what is known, with these taps and this readout."""
        shape = primary(self.full).shape
        time: int | None = None
        # A tap may lie where time has been summed already.
        steps = next((tap.calls for tap in taps if tap.calls > 1), None) or max(
            (tap.shape[tap.time_axis] for tap in taps if tap.time_axis is not None), default=None
        )
        if isinstance(self.run, TimeLoop):
            time = None if self.run.steps is not None else self.run.axis
            steps = self.run.steps or shape[self.run.axis]
        elif self.batch_axis == 1:
            time, steps = 0, shape[0]
        elif len(shape) > 2 and any(tap.time_axis == 1 and tap.shape[1] == shape[1] for tap in taps):
            time, steps = 1, shape[1]
        known = " and ".join(library.name for library in self.libraries)
        return Description(
            known or ("neurons of its own" if self.neurons else "plain PyTorch"),
            self.run,
            self.reset,
            self.reset_why,
            self.batch_axis,
            time,
            steps,
            readout,
            width,
            taps,
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
            staged = stage_taps(self.network, events, self.neurons)
            return [[name] for name in staged] or self._spread(_FEW)
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
        options = list(spread(self.network, self.trace.events, self.neurons, number)) if number else []
        if number and not options:
            raise ValueError(f"{self._no_stages()}; or taps=[] for none")
        return [names if len(names) > 1 else names * 2 for names in options]

    def _trunk_first(self, names: list[str]) -> list[str]:
        """Of modules that could be tapped, the first through which all that comes out goes, and then the others."""
        if len(names) > 1:
            example = next(iter(self.altered.values())).example
            base = _leaves(self.base.output)
            for name in dict.fromkeys(names[:_TRIED]):
                self._ensure(name)
                try:
                    done = self.prober.go(example, patch={name: self.base.kept[name]})
                except UNFIT:
                    # Its rows may be other ones in another batch, such as those that are not padded.
                    continue
                if all(changes(leaf, _leaves(done.output)[path]) is None for path, leaf in base.items()):
                    return [name, *names]
        return names[:_TRIED]

    def _without_gradient(self, names: set[str]) -> set[str]:
        """Of modules, those through which no gradient can come."""
        try:
            kept = self.prober.go(self.base.example, listen=names, training=True, gradients=True).kept
        except UNFIT:
            # Such as batch norm of a single value; the error comes again, in training, if it is one.
            return set()
        told = {name: [self.extract(one) for one in kept[name]] for name in names}
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
        if len(shape) > axis and shape[axis] > 2 * _MANY:
            small = resized(self.prober.example, axis, _MANY)
            try:
                self.prober.go(small)
            except UNFIT:
                return
            self.prober.example = small

    def find_batch(self, names: list[str]) -> None:
        """Find the axis of samples in the example.

        Args:
            names: of submodules whose output is told from too.

        Raises:
            ValueError: none or several can be it; the message says what to pass.
        """
        if self.given_batch != "auto":
            if self.given_batch not in (0, 1):
                raise ValueError(f"batch_axis must be 0 or 1, got {self.given_batch!r}")
            candidates = [int(self.given_batch)]
        elif isinstance(self.run, TimeLoop):
            candidates = [0 if self.run.steps is not None else 1 - self.run.axis]
        else:
            candidates = [0, 1]
        shape = tuple(primary(self.prober.example).shape)
        seen = {}
        for axis in candidates:
            if len(shape) > axis and self._probe_batch(axis, names):
                seen[axis] = self.length, self.base, self.altered
        fitting = list(seen)
        if len(fitting) > 1:
            raise ValueError(
                "samples may lie along either of the first axes of the example, of shape "
                f"{tuple(primary(self.full).shape)}: pass batch_axis=0 if it is [N, T, ...], batch_axis=1 if it is [T, "
                "N, ...]"
            )
        if not fitting:
            if self.given_batch == "auto":
                self._refuse_folded()
                raise ValueError(
                    f"no axis of {type(self.network).__name__}'s input was found to hold independent samples: where "
                    "one changes, what it gives for others changes too, or nothing does; pass batch_axis=0 or "
                    f"batch_axis=1, which of the axes of the example, of shape {tuple(primary(self.full).shape)}, is "
                    "the batch's"
                )
            self.mixing = True
            fitting = candidates
        self.batch_axis = fitting[0]
        if self.batch_axis in seen:
            self.length, self.base, self.altered = seen[self.batch_axis]
        else:
            self._probe_batch(self.batch_axis, names, insist=True)

    def _refuse_folded(self) -> None:
        """Say so if the input itself holds all time steps of all samples in one axis."""
        example = self.prober.example
        rows = primary(example).shape[0]
        numbers = list(dict.fromkeys([0, 1, rows // 2, rows - 1]))
        base = _leaves(self.prober.go().output)
        heard = {number: _leaves(self.prober.other(example, 0, number).output) for number in numbers}
        for path, leaf in base.items():
            if not leaf.dim() or leaf.shape[0] != rows:
                continue
            changed = {n: (changes(leaf, other[path]) or [set()])[0] for n, other in heard.items() if path in other}
            for steps in (steps for steps in range(2, rows) if rows % steps == 0):
                samples = rows // steps
                ways = {
                    f"unflatten(0, (-1, {steps}))": all(
                        {m // steps for m in found} <= {n // steps} for n, found in changed.items()
                    ),
                    f"unflatten(0, ({steps}, -1))": all(
                        {m % samples for m in found} <= {n % samples} for n, found in changed.items()
                    ),
                }
                for axis, (way, fits) in zip((1, 0), ways.items(), strict=True):
                    if fits and any(changed.values()):
                        raise ValueError(
                            f"the example, of shape {tuple(primary(self.full).shape)}, seems to hold {steps} time "
                            f"steps of each sample in its first axis: pass batch_axis=0, time_axis={axis}, "
                            f"extract=lambda y: y.{way} and readout=lambda y: y.{way}.mean({axis})"
                        )

    def _probe_batch(self, axis: int, names: list[str], insist: bool = False) -> bool:
        """Whether, when a sample along this axis of the input changes, the same sample changes in what comes out."""
        example = self.prober.example
        length = primary(example).shape[axis]
        for samples in dict.fromkeys([_MANY if length > 2 * _MANY else 3 if length == 1 else length, length]):
            try:
                sized = example if samples == length else resized(example, axis, samples)
                base = self.prober.go(sized, listen=names)
            except UNFIT:
                continue
            length, example = samples, sized
            break
        else:
            return False
        self.batch_axis, self.length, self.base, self.altered = axis, length, base, {}
        for number in dict.fromkeys([length - 1, 0, length // 2]):
            for seed in range(_TRIED):
                self.altered[number] = self.prober.other(example, axis, number, names, seed)
                if self._hears(number):
                    break
            if not insist and self._separates() is False:
                return False
        return bool(self._separates())

    def _hears(self, number: int) -> bool:
        """Whether the output is another where this sample is."""
        other = _leaves(self.altered[number].output)
        return any(
            path not in other or changes(leaf, other[path]) is not None
            for path, leaf in _leaves(self.base.output).items()
        )

    def _separates(self) -> bool | None:
        """Whether what changes is a sample alone, so far as was seen; None where nothing changed."""
        found = [self._places_of_leaf(path) for path, leaf in _leaves(self.base.output).items() if leaf.numel() > 1]
        told = [one for one in found if one is not None]
        if not told:
            told = [one for name in self.base.kept if (one := self._places(name)) is not None]
        return all(told) if told else None

    def _places_of_leaf(self, path: tuple[Any, ...]) -> list[Place] | None:
        altered = {
            number: [leaf]
            for number, done in self.altered.items()
            if (leaf := _leaves(done.output).get(path)) is not None
        }
        return places([_leaves(self.base.output)[path]], altered, self.length)

    def _places(self, name: str) -> list[Place] | None:
        altered = {number: list(map(self.extract, done.kept[name])) for number, done in self.altered.items()}
        return places(list(map(self.extract, self.base.kept[name])), altered, self.length)

    def _ensure(self, name: str) -> None:
        if name not in self.base.kept:
            for done in (self.base, *self.altered.values()):
                done.kept[name] = self.prober.go(done.example, listen=[name]).kept[name]

    # Axes

    def _tap(self, name: str, time_axis: TimeAxis | str, channel_axis: int | str) -> Tap:
        self._ensure(name)
        event = self.trace.events[name]
        features = self.extract(self.base.kept[name][0])
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
            place = self._place(
                name, features, "tap", "time_axis=0 for [T, N, ...], 1 for [N, T, ...] or None for [N, ...]"
            )
            batch, folded = place.axis, place.folded is not None
            if folded:
                axis = 0 if place.folded == "time" else 1
                batch = 1 - axis
                extract = Unfold(self._steps(name), axis, self.extract)
                # Of the probe's batch, which may hold fewer steps than the example.
                view = Unfold(features.shape[0] // self.length, axis, self.extract)
                features = view(self.base.kept[name][0])
            why = "one sample of the input changed"
        else:
            batch = 1 if time_axis == 0 else 0
        rest = list(range(2 if batch == 1 or folded or time_axis == 1 else 1, features.dim()))
        if channel_axis == "auto":
            channels = rest[0] if len(rest) == 1 else self._channels(name, features, rest, view)
        else:
            channels = int(channel_axis) % features.dim()
        if time_axis == "auto":
            time_axis = 0 if batch == 1 else None
            if folded:
                time_axis = 1 - batch
            elif batch == 0 and event.calls == 1 and self.run is None and channels > 1:
                shape = primary(self.base.example).shape
                beside = self.batch_axis == 0 and len(shape) > 2 and features.shape[1] == shape[1]
                time_axis = 1 if features.dim() > 4 or beside else None
        if features.dim() <= channels or not features.is_floating_point():
            raise ValueError(
                f"the tap {name!r} gives shape {tuple(features.shape)}, which has no channels: tap another"
            )
        return Tap(name, tuple(features.shape), time_axis, channels, event.calls, extract, why)  # type: ignore[arg-type]

    def _place(self, name: str, features: Tensor, what: str, cure: str) -> Place:
        plain = self._likely(self._places(name), features)
        if len(plain) != 1:
            how = "may hold samples along several axes" if plain else "mixes samples"
            raise ValueError(f"the {what} {name!r} gives shape {tuple(features.shape)}, which {how}: pass {cure}")
        (place,) = plain
        if place.axis > (0 if place.folded else 1):
            raise ValueError(
                f"the {what} {name!r} gives shape {tuple(features.shape)} with its samples along axis {place.axis}: "
                f"pass extract=..., as in lambda y: y.movedim({place.axis}, 0), and time_axis=None"
            )
        return place

    def _likely(self, found: list[Place] | None, tensor: Tensor) -> list[Place]:
        """Of the places where samples may lie those that hold nothing else, if there are any."""
        if found is None or (self.mixing and not found):
            # Silent, or samples are meant to mix: lengths are all there is.
            found = [Place(axis) for axis, size in enumerate(tensor.shape[:2]) if size == self.length]
        return [place for place in found if not place.folded] or found

    def _steps(self, name: str) -> int:
        """T where it lies in the batch axis, with the example as it was given."""
        rows = len(self.extract(self.prober.go(self.full, listen=[name]).kept[name][0]))
        return int(rows // primary(self.full).shape[self.batch_axis or 0])

    def _channels(self, name: str, features: Tensor, rest: list[int], view: Extract) -> int:
        end = self.trace.events[name].end
        found, width = self._class_axis(lambda done: [view(o) for o in done.kept[name]], rest, end, [name])
        if found is not None:
            return found
        alike = [axis for axis in rest if features.shape[axis] == width]
        if len(alike) == 1:
            return alike[0]
        raise ValueError(
            f"the tap {name!r} gives shape {tuple(features.shape)}, and which axis holds channels is not told by a "
            f"layer: pass channel_axis={' or '.join(map(str, rest))}"
        )

    def _class_axis(
        self, tensors: Callable[[Pass], list[Tensor]], rest: list[int], end: int | None, listen: list[str]
    ) -> tuple[int | None, int | None]:
        """The axis along which one index alone changes with one channel of the last layer, and this layer's width."""
        modules = dict(named(self.prober.rest))
        layers = []
        for layer, event in self.trace.events.items():
            if event.shape is not None and (end is None or event.end <= end):
                axis = channel_axis_of(modules[layer], len(event.shape))
                if axis is not None and event.shape[axis] > 1:
                    layers.append((layer, axis, event.shape[axis]))
        base = tensors(self.base)
        for layer, axis, width in reversed(layers[-_FEW:]):
            seen = []
            for index in (0, width // 2):
                indices: list[set[int]] = [set() for _ in base[0].shape]
                for sign in (1, -1):
                    done = self.prober.go(self.base.example, listen, Injection(layer, axis, index, sign))
                    for one, other in zip(base, tensors(done), strict=True):
                        for all_, new in zip(indices, changes(one, other) or [], strict=False):
                            all_ |= new
                seen.append(indices)
            fitting = [a for a in rest if all(len(one[a]) == 1 for one in seen) and seen[0][a] != seen[1][a]]
            if len(fitting) == 1:
                return fitting[0], width
            if len(fitting) > 1:
                break
        return None, layers[-1][2] if layers else None

    # What is predicted

    def _readout(
        self, given: Extract | str | None, classes: int | None, time_axis: Any, taps: Sequence[Tap]
    ) -> tuple[Any, int]:
        readout = self._found_readout(classes, time_axis, taps) if isinstance(given, str) else given
        output = self.base.output
        logits = output if readout is None else readout(output)
        if not isinstance(logits, Tensor) or not logits.dim():
            got = type(logits).__name__ if not isinstance(logits, Tensor) else "a single number"
            raise ValueError(
                f"{'the network' if readout is None else 'readout=...'} gives {got}: pass readout=..., which takes "
                "the network's output and returns logits [N, classes]"
            )
        for number, done in self.altered.items():
            other = changes(logits, done.output if readout is None else readout(done.output))
            if other is not None and not other[0] <= {number} and not self.mixing:
                raise ValueError(
                    f"the logits, of shape {tuple(logits.shape)}, do not hold one sample at each index of their first "
                    "axis: pass readout=..., which takes the network's output and returns logits [N, classes], as in "
                    "lambda output: output.mean(0) for [T, N, classes] or output.mean(1) for [N, T, classes]"
                )
        if len(logits) != self.length and isinstance(given, str):
            raise ValueError(
                f"the network gives {len(logits)} predictions for {self.length} samples: pass readout=..., which takes "
                "its output and returns logits [N, classes]"
            )
        axis = 1 if logits.dim() > (2 if isinstance(given, str) else 3) else -1
        if readout is None and logits.dim() == 3:
            found, _ = self._class_axis(lambda done: [done.output], [1, 2], None, [])
            axis = found or axis
        return readout, classes or int(1 if logits.dim() == 1 else logits.shape[axis])

    def _found_readout(self, classes: int | None, time_axis: Any, taps: Sequence[Tap]) -> Readout | None:
        path = self._logits(classes)
        leaf = _leaves(self.base.output)[path]
        shown = f"the network gives {_at(path) or 'a tensor '}of shape {tuple(leaf.shape)}"
        plain = self._likely(self._places_of_leaf(path), leaf)
        if len(plain) != 1 or plain[0].axis > 1:
            raise ValueError(
                f"{shown}, and along which axis samples lie is not told by it: pass readout=..., which takes the "
                "network's output and returns logits [N, classes]"
            )
        (place,), unfold = plain, None
        dims, batch = leaf.dim(), place.axis
        if place.folded:
            steps = (
                len(_leaves(self.prober.go(self.full).output)[path]) // primary(self.full).shape[self.batch_axis or 0]
            )
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
        width, _ = self._class_axis(lambda done: [_leaves(done.output)[path]], list(range(first, dims)), None, [])
        if dims > 3 and (width == first or (batch == 1 and dims == 5 and width is None)):
            # Something is predicted at every place.
            return Readout(path, 0 if batch else None)
        if width is None and time_axis == 1 and dims == 3:
            width = 2
        # What is averaged over has to be time: as long as that is elsewhere.
        if dims == 3 and width is not None and leaf.shape[3 - width] in self._lengths(taps):
            return Readout(path, 3 - width)
        if dims == 5 and width == 2:
            return Readout(path, 1)
        raise ValueError(
            f"{shown}, not logits [N, classes] or [T, N, classes]: pass readout=..., which takes the network's output "
            "and returns logits [N, classes], as in lambda output: output.mean(1) for [N, T, classes], or "
            "readout=None if it is the prediction [N, classes, ...] as it stands"
        )

    def _lengths(self, taps: Sequence[Tap]) -> set[int]:
        """How many time steps there are, so far as that is known."""
        shape = primary(self.base.example).shape
        found = {tap.shape[tap.time_axis] for tap in taps if tap.time_axis is not None}
        found |= {tap.calls for tap in taps if tap.calls > 1}
        found |= {self.trace.events[name].calls for name in self.neurons if name in self.trace.events} - {1}
        if isinstance(self.run, TimeLoop):
            found.add(self.run.steps or shape[self.run.axis])
        elif self.batch_axis == 0 and len(shape) > 2:
            found.add(shape[1])
        return found

    def _logits(self, classes: int | None) -> tuple[Any, ...]:
        leaves = {
            path: leaf for path, leaf in _leaves(self.base.output).items() if leaf.dim() and leaf.is_floating_point()
        }
        if not leaves:
            raise ValueError(
                f"the network gave {type(self.base.output).__name__} without a tensor in it, not logits [N, classes]: "
                "pass readout=..., which takes the network's output and returns logits [N, classes]"
            )
        if len(leaves) > 1 and not isinstance(next(iter(leaves))[0], int):
            called = [path for name in _LOGITS for path in leaves if path == (name,)]
            if called:
                return called[0]
        if len(leaves) > 1:
            leaves = {path: leaf for path, leaf in leaves.items() if leaf.dim() in (2, 3)} or leaves
        if classes is not None and len(leaves) > 1:
            wide = {
                path: leaf for path, leaf in leaves.items() if classes in (leaf.shape[-1], leaf.shape[1 % leaf.dim()])
            }
            leaves = wide or leaves
        several = isinstance(self.base.output, tuple) and len(leaves) <= _FEW
        if len(leaves) == 1 or (several and len({leaf.shape[-1] for leaf in leaves.values()}) == 1):
            # Such as spikes and membrane potentials of the same neurons.
            return next(iter(leaves))
        if isinstance(self.base.output, list) and len({leaf.shape for leaf in leaves.values()}) == 1:
            raise ValueError(
                f"the network gives a list of {len(leaves)} tensors of shape "
                f"{tuple(next(iter(leaves.values())).shape)}, and whether these are time steps or predictions of their "
                "own is not told by them: pass readout=..., as in lambda output: torch.stack(output).mean(0), or "
                "lambda output: output[0]"
            )
        listed = ", ".join(f"{_at(path)}of shape {tuple(leaf.shape)}" for path, leaf in leaves.items())
        path, leaf = next(reversed(leaves.items()))
        mean = ".mean(0)" if leaf.dim() == 3 and leaf.shape[0] != self.length else ".mean(1)" if leaf.dim() == 3 else ""
        raise ValueError(
            f"the network gives {listed}, and which of these are the logits is not told by them: pass readout=..., as "
            f"in lambda output: output[{path[0]!r}]{mean}"
        )

    def _check_training(self, taps: Sequence[Tap], readout: Any) -> None:
        """In training a network may give something else, such as heads of its own beside the logits."""
        try:
            done = self.prober.go(self.base.example, listen=[tap.name for tap in taps], training=True)
        except UNFIT:
            # Such as batch norm of a single value; the error comes again, in training, if it is one.
            return
        for tap in taps:
            expected = tuple(self.extract(self.base.kept[tap.name][0]).shape)
            found = tuple(self.extract(done.kept[tap.name][0]).shape) if done.kept[tap.name] else ()
            if found != expected:
                raise ValueError(
                    f"the tap {tap.name!r} gives shape {found} in training and {expected} in evaluation: pass "
                    f"extract=..., which returns the part of shape {expected}, as in lambda y: y[:{expected[0]}], or "
                    "tap another in taps=[...]"
                )
        try:
            expected = tuple((self.base.output if readout is None else readout(self.base.output)).shape)
            found = tuple((done.output if readout is None else readout(done.output)).shape)
        except UNFIT as error:
            raise ValueError(f"{error}; this is so in training alone") from error
        if found != expected:
            raise ValueError(
                f"the network gives logits of shape {found} in training and {expected} in evaluation: pass "
                "readout=..., which takes the output of either and returns logits [N, classes]"
            )


def _leaves(output: Any) -> dict[tuple[Any, ...], Tensor]:
    """The tensors in an output by the key or index that leads there; nothing deeper, which holds states."""
    if isinstance(output, Tensor):
        return {(): output}
    return {(key,): value for key, value in entries(output).items() if isinstance(value, Tensor)}


def _at(path: tuple[Any, ...]) -> str:
    return f"output[{path[0]!r}] " if path else ""
