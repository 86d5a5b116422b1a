"""Where samples lie in a batch and in all that comes of it: told by passes in which one sample is another."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..method import Extract, TimeLoop, entries, primary
from .changes import Place, changes, places
from .perturb import resized
from .probing import UNFIT, Injection, Pass, Prober, channel_axis_of, named

FEW, MANY, TRIED = 3, 4, 5


class Samples:
    """Finds the axis of samples in a batch, and in what the network and its modules give of it.

    Args:
        prober: what passes go through.
        full: the batch as it was given.
        batch_axis: of it, if that is known, or ``"auto"``.
        extract: takes the features out of what a module gives.
        trace: a pass.
        number: how many samples it holds, if that is known; where either axis may be theirs, it tells.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> batch = torch.rand(3, 4)
        >>> prober = Prober(nn.Linear(4, 5), batch, None)
        >>> samples = Samples(prober, batch, "auto", lambda given: given, prober.go())
        >>> samples.find([])
        >>> samples.batch_axis, samples.places_of_leaf(())
        (0, [Place(axis=0, folded=None)])
    """

    def __init__(
        self,
        prober: Prober,
        full: Any,
        batch_axis: int | str,
        extract: Extract,
        trace: Pass,
        number: int | None = None,
    ) -> None:
        self.prober, self.full, self.given_batch = prober, full, batch_axis
        self.extract, self.trace, self.number = extract, trace, number
        self.batch_axis: int | None = None
        self.length, self.mixing = 0, False
        self.base, self.altered = Pass(), dict[int, Pass]()

    def find(self, names: list[str]) -> None:
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
        elif isinstance(self.prober.run, TimeLoop):
            candidates = [0 if self.prober.run.steps is not None else 1 - self.prober.run.axis]
        else:
            candidates = [0, 1]
        shape = tuple(primary(self.prober.example).shape)
        seen: dict[int, Any] = {}
        # Beside its logits a network may give what is of the whole batch, such as firing rates.
        for every in (True, False):
            for axis in candidates:
                if not seen.get(axis) and len(shape) > axis and self._probe_batch(axis, names, every=every):
                    seen[axis] = self.length, self.base, self.altered
            if seen or len(leaves_of(self.base.output)) < 2:
                break
        given = primary(self.full).shape
        fitting = [axis for axis in seen if self.number in (None, given[axis])] or list(seen)
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
                    f"no axis of {type(self.prober.rest).__name__}'s input was found to hold independent samples: "
                    f"{self._why_none(candidates)}; pass batch_axis=0 or batch_axis=1, which of the axes of the "
                    f"example, of shape {tuple(primary(self.full).shape)}, is the batch's"
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
        base = leaves_of(self.prober.go().output)
        heard = {number: leaves_of(self.prober.other(example, 0, number).output) for number in numbers}
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

    def _why_none(self, candidates: list[int]) -> str:
        """Say which module mixes samples, or behind which nothing changes with them."""
        names = [name for name, event in self.trace.events.items() if name and event.shape is not None]
        mixing = silent = -1
        for axis in candidates:
            if primary(self.prober.example).dim() <= axis:
                continue
            self._probe_batch(axis, names, insist=True)
            told = []
            for name in names:
                try:
                    told.append(self.places_of(name))
                except (*UNFIT, StopIteration):
                    told.append(None)
            if any(told):
                silent = max(silent, *(index for index, found in enumerate(told) if found))
            if any(self._hears(number) for number in self.altered):
                # Of the axes, samples lie along that along which they go further apart.
                mixing = max(mixing, next((index for index, found in enumerate(told) if found == []), len(names)))
        if mixing >= 0:
            where = f"in what {names[mixing]!r} gives" if mixing < len(names) else "in its own forward()"
            return f"where one changes, what it gives for others changes too, and does so first {where}"
        behind = f"behind {names[silent]!r}" if silent >= 0 else "in all that it does"
        return f"nothing changes {behind} where a sample changes, as it is where neurons never fire"

    def _probe_batch(self, axis: int, names: list[str], insist: bool = False, every: bool = True) -> bool:
        """Whether, when a sample along this axis of the input changes, the same sample changes in what comes out."""
        example = self.prober.example
        length = primary(example).shape[axis]
        for samples in dict.fromkeys([MANY if length > 2 * MANY else 3 if length == 1 else length, length]):
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
            for seed in range(TRIED):
                self.altered[number] = self.prober.other(example, axis, number, names, seed)
                if self._hears(number):
                    break
            if every and not insist and self._separates() is False:
                return False
        return bool(self._separates(every))

    def _hears(self, number: int) -> bool:
        """Whether the output is another where this sample is."""
        base, other = leaves_of(self.base.output), leaves_of(self.altered[number].output)
        # What has one axis alone may be of the whole batch.
        wide = {path: leaf for path, leaf in base.items() if leaf.dim() > 1} or base
        return any(path not in other or changes(leaf, other[path]) is not None for path, leaf in wide.items())

    def _separates(self, every: bool = True) -> bool | None:
        """Whether what changes is a sample alone, in every tensor of the output or in one; None if nothing changed."""
        leaves = {path: leaf for path, leaf in leaves_of(self.base.output).items() if leaf.numel() > 1}
        if not every:
            leaves = {path: leaf for path, leaf in leaves.items() if leaf.dim() > 1}
        told = [one for path in leaves if (one := self.places_of_leaf(path)) is not None]
        if not told:
            told = [one for name in self.base.kept if (one := self.places_of(name)) is not None]
        return (all(told) if every else any(told)) if told else None

    def places_of_leaf(self, path: tuple[Any, ...]) -> list[Place] | None:
        """Return where samples may lie in a tensor of the output; None where nothing changed in it."""
        altered = {
            number: [leaf]
            for number, done in self.altered.items()
            if (leaf := leaves_of(done.output).get(path)) is not None
        }
        return places([leaves_of(self.base.output)[path]], altered, self.length)

    def places_of(self, name: str) -> list[Place] | None:
        """Return where samples may lie in what a module gives; None where nothing changed in it."""
        altered = {number: list(map(self.extract, done.kept[name])) for number, done in self.altered.items()}
        return places(list(map(self.extract, self.base.kept[name])), altered, self.length)

    def ensure(self, name: str) -> None:
        """Listen to a module in the passes that were made before it was asked for."""
        if name not in self.base.kept:
            for done in (self.base, *self.altered.values()):
                done.kept[name] = self.prober.go(done.example, listen=[name]).kept[name]

    def steps(self, view: Callable[[Pass], Tensor], listen: Sequence[str] = ()) -> int:
        """Return T where it lies in the batch axis of what a pass gives, with the batch as it was given."""
        rows = len(view(self.prober.go(self.full, listen)))
        return rows // int(primary(self.full).shape[self.batch_axis or 0])

    def place(self, name: str, features: Tensor, cure: str) -> Place:
        """Return where samples lie in the features behind a tap.

        Raises:
            ValueError: it is not told by them; the message says what to pass.
        """
        plain = self.likely(self.places_of(name), features)
        if len(plain) != 1:
            how = "may hold samples along several axes" if plain else "mixes samples"
            raise ValueError(f"the tap {name!r} gives shape {tuple(features.shape)}, which {how}: pass {cure}")
        (place,) = plain
        if place.axis > (0 if place.folded else 1):
            raise ValueError(
                f"the tap {name!r} gives shape {tuple(features.shape)} with its samples along axis {place.axis}: "
                f"pass extract=..., as in lambda y: y.movedim({place.axis}, 0), and time_axis=None"
            )
        return place

    def likely(self, found: list[Place] | None, tensor: Tensor) -> list[Place]:
        """Of the places where samples may lie those that hold nothing else, if there are any."""
        if found is None or (self.mixing and not found):
            # Silent, or samples are meant to mix: lengths are all there is.
            found = [Place(axis) for axis, size in enumerate(tensor.shape[:2]) if size == self.length]
        return [place for place in found if not place.folded] or found

    def class_axis(
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
        for layer, axis, width in reversed(layers[-FEW:]):
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

    def not_along(self, tensor: Callable[[Pass], Tensor], rest: list[int], listen: Sequence[str] = ()) -> list[int]:
        """Return the axes but those that are the input's, such as time: the last in it changes the last alone."""
        base, given = tensor(self.base), primary(self.base.example).shape

        def along(axis: int) -> bool:
            last = base.shape[axis] - 1
            for place in range(1, len(given)):
                if place == self.batch_axis or not last or given[place] != last + 1:
                    continue
                for seed in range(TRIED):
                    other = tensor(self.prober.other(self.base.example, place, last, listen, seed))
                    found = changes(base, other)
                    if found is not None:
                        break
                if found is not None and len(found) > axis and found[axis] == {last}:
                    return True
            return False

        return [axis for axis in rest if not along(axis)]


def leaves_of(output: Any) -> dict[tuple[Any, ...], Tensor]:
    """The tensors in an output by the key or index that leads there; nothing deeper, which holds states."""
    if isinstance(output, Tensor):
        return {(): output}
    return {(key,): value for key, value in entries(output).items() if isinstance(value, Tensor)}
