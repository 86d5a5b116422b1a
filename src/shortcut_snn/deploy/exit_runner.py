"""Networks that offer their logits at every exit, where samples may leave.

An exit in time is the end of a time step: the mean of the logits so far. An exit in depth is a tap: the prediction of
its branch from the mean of the features so far. The exits of a time step come before those of the next one.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import call_on, evaluation, inputs_of
from .._utils.module_state import hooked
from ..method import Shortcut, TimeLoop
from ..method.heads import pool
from ..method.time_loop import stack_steps
from ..neurons.current_neuron import Membrane
from ..neurons.packing import bits_of, pack, with_bits
from .single_step import SingleStep, copy_sharing_weights

OUTPUT = "output"  # the place of the network's own logits, the last exit of a time step
Exit = tuple[int, str]
"""A time step, from 1 on, and a place in it: the name of a tap, or :data:`OUTPUT`."""
Visit = Callable[[int, Tensor], Tensor | None]
"""Takes the number of an exit and the logits there; returns the rows of the samples that go on, or None for all."""


def _in_network_order(network: nn.Module, heads: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return heads in the order in which the modules of their taps end, whatever the order of their names."""
    paths = [path for path, _ in network.named_modules(remove_duplicate=False)]

    def end(tap: str) -> tuple[int, int]:
        # Of a module and its last child, the child ends first.
        return max(at for at, path in enumerate(paths) if f"{path}.".startswith(f"{tap}.")), -len(tap)

    return {tap: heads[tap] for tap in sorted(heads, key=end)}


class AllLeft(Exception):
    """Every sample of the batch has left."""


class ExitRunner(nn.Module):
    """A folded built-in network that runs piece by piece. A sample that leaves is computed no further.

    A piece is the time steps up to the next one with an exit. The runner takes a copy that shares the weights.
    ``heads`` come by the names of their taps.
    """

    def __init__(self, network: nn.Module, heads: Mapping[str, nn.Module], steps: int) -> None:
        super().__init__()
        heads = _in_network_order(network, heads)
        network, *copies = copy_sharing_weights(nn.ModuleList([network, *heads.values()]))
        self.stepper, self.heads = SingleStep(network), nn.ModuleList(copies)
        self.steps, self._places = steps, len(heads) + 1
        self.exits: list[Exit] = [(step + 1, place) for step in range(steps) for place in (*heads, OUTPUT)]
        self._first = _FirstLayer()
        for path, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                self._first.layer = module
                network.set_submodule(path, self._first)
                break
        for place, name in enumerate(heads):
            self.stepper.network.get_submodule(name).register_forward_hook(partial(self._at_tap, place))

    @torch.no_grad()
    def forward(self, x: Tensor, visit: Visit, exits: Collection[int] | None = None) -> None:
        """Run normalised images or frames and call ``visit`` at these exits (None: all), until no sample is left."""
        self.stepper.network.as_sequence(x)
        self._frames, self._visit = x, visit
        self._offered = range(len(self.exits)) if exits is None else exits
        self._sums: list[Tensor | None] = [None] * self._places
        self._membranes = [Membrane() for _ in self.stepper.names]
        try:
            self._step = 0
            for step in sorted({1 + exit // self._places for exit in self._offered}):
                self._step, before = step, self._step
                # Images are the same in every step, and the first layer runs once.
                frames = self._frames[before:step] if x.dim() == 5 else self._frames
                self._piece = step - before
                logits = self.stepper.step(frames, self._membranes, self._piece)
                self._membranes = [Membrane(membrane.after) for membrane in self._membranes]
                self._offer(self._places - 1, logits)
        except AllLeft:
            pass
        finally:
            self._first.image = self._first.output = None
            del self._frames, self._visit, self._sums, self._membranes

    def _at_tap(self, place: int, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Offer the exit at a tap; what a hook returns replaces the output."""
        if all(exit % self._places != place for exit in self._offered):
            return None
        keep = self._offer(place, pool(output, 0, getattr(self.heads[place], "pools", True)))
        if keep is None:
            return None
        remaining = _rows(output, keep, 1)
        return with_bits(remaining, pack(remaining)) if bits_of(output) is not None else remaining

    def _offer(self, place: int, values: Tensor) -> Tensor | None:
        """Add the mean values of a piece to those before, offer the exit, and drop the samples that leave."""
        before, values = self._sums[place], self._piece * values
        total = self._sums[place] = values if before is None else before + values
        exit = (self._step - 1) * self._places + place
        if exit not in self._offered:
            return None
        mean = total / self._step
        keep = self._visit(exit, self.heads[place](mean) if place < len(self.heads) else mean)
        if keep is not None:
            if not len(keep):
                raise AllLeft
            self._select(keep)
        return keep

    def _select(self, keep: Tensor) -> None:
        """Keep only some samples of the intermediate results."""
        self._sums = [None if total is None else total[keep] for total in self._sums]
        for membrane in self._membranes:
            # The layers before this exit have run, and the others have not.
            name = "before" if membrane.after is None else "after"
            state = getattr(membrane, name)
            setattr(membrane, name, None if state is None else _rows(state, keep, 0))
        self._frames = _rows(self._frames, keep, self._frames.dim() - 4)
        if self._first.output is not None:
            self._first.image, self._first.output = self._frames, _rows(self._first.output, keep, 0)


class _FirstLayer(nn.Module):
    """The first convolution, if there is one. It runs once for an image that is the same in every time step."""

    layer: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.image: Tensor | None = None
        self.output: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.image is None or self.output is None or x.data_ptr() != self.image.data_ptr():
            # Kept, so that no other tensor gets its address.
            self.image, self.output = x, self.layer(x)
        return self.output


def _rows(x: Tensor, rows: Tensor, axis: int) -> Tensor:
    """Return some rows of a tensor in the same order of memory."""
    strides = x.stride()
    order = sorted(range(x.dim()), key=lambda each: -strides[each])
    selected = x.permute(order).index_select(order.index(axis), rows)
    return selected.permute([order.index(each) for each in range(x.dim())])


class WrappedRunner:
    """Any wrapped network. A pass ends when every sample has left; until then all of them are computed.

    A tap that is called once in a time step is an exit of every step. The network's own output is one if the wrapper
    calls the network once for each time step.
    """

    def __init__(self, model: Shortcut) -> None:
        self.model = model
        layout = model.layout
        self._is_looped = isinstance(layout.run, TimeLoop) and not layout.run.carry
        calls = {tap.name: tap.calls for tap in layout.taps}
        steps = max([*calls.values(), (layout.time_steps or 1) if self._is_looped else 1])
        calls[OUTPUT] = steps if self._is_looped else 0
        exits = [(step, place) for step in range(1, steps + 1) for place in calls if step <= calls[place]]
        self.exits: list[Exit] = exits if self._is_looped else [*exits, (steps, OUTPUT)]

    def __call__(self, x: Any, visit: Visit, exits: Collection[int] | None = None) -> None:
        """Run a batch and call ``visit`` at its exits, until no sample is left; see :class:`ExitRunner`."""
        model, numbers = self.model, {exit: number for number, exit in enumerate(self.exits)}
        rows: Tensor | None = None
        sums: dict[str, Tensor] = {}
        calls = dict.fromkeys(model.taps.names, 0)
        outputs: list[Any] = []

        def offer(step: int, place: str, logits: Tensor) -> None:
            nonlocal rows
            number = numbers[step, place]
            if exits is not None and number not in exits:
                return
            keep = visit(number, logits if rows is None else logits[rows])
            if keep is not None:
                rows = keep if rows is None else rows[keep]
                if not len(rows):
                    raise AllLeft

        def at_tap(name: str, module: nn.Module, args: Any, output: Any) -> None:
            index = model.taps.names.index(name)
            tap, head = model.taps.taps[index], model.branches[index]
            features = pool(tap.features(output), tap.time_axis, getattr(head, "pools", True))
            sums[name] = sums[name] + features if name in sums else features
            calls[name] += 1
            if (calls[name], name) in numbers:
                offer(calls[name], name, head(sums[name] / calls[name]))

        def at_output(name: str, module: nn.Module, args: Any, output: Any) -> None:
            outputs.append(output)
            if (len(outputs), OUTPUT) in numbers and self._is_looped:
                offer(len(outputs), OUTPUT, model.read(stack_steps(outputs)))

        modules = {name: model.network.get_submodule(name) for name in model.taps.names}
        model.reset()
        try:
            with evaluation(model), hooked(modules, at_tap), hooked({"": model.network}, at_output):
                args, kwargs = inputs_of(model.network, x)
                with model.batch_size(args, kwargs):
                    output = call_on(model.network, model.layout.run, x)
                if not self._is_looped:
                    offer(self.exits[-1][0], OUTPUT, model.read(output))
        except AllLeft:
            pass
        finally:
            model.reset()
