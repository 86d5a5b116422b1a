"""The arguments of a step alongside the batch: further sequences, and the state that the step before returned."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._utils.calls import call_by_name, evaluation, inputs_of, map_tensors, signature_of, tensors_in
from ..method import TimeLoop
from ..method.layout import entries
from .perturb import counts, varied
from .probe import CALL_ERRORS


class StepArguments:
    """The arguments of a network that may be called step by step."""

    def __init__(self, network: nn.Module, example: Any) -> None:
        self.network = network
        args, kwargs = inputs_of(network, map_tensors(varied, example))
        self.signature = signature_of(network)
        self.values: dict[str, Any] = dict(self.signature.bind_partial(*args, **kwargs).arguments)
        self.batch = next((name for name, value in self.values.items() if isinstance(value, Tensor)), None)
        """The name of the batch; None if it is not a tensor."""

    @property
    def flags(self) -> list[str]:
        """The arguments that are true or false, of which every step gets the same."""
        named = [part for value in self.values.values() if isinstance(value, dict) for part in value.items()]
        return [name for name, value in [*self.values.items(), *named] if isinstance(value, bool)]

    def loop(self, axis: int, steps: int | None = None) -> TimeLoop:
        """Return the loop over an axis, or over a static batch. Arguments that the example lacks can only be state."""
        lacking = (p.name for p in self.free if p.default is p.empty and p.name not in self.values)
        return TimeLoop(steps, tuple(lacking), axis, () if steps else self._sequences(axis))

    def _sequences(self, axis: int) -> tuple[str, ...]:
        """Return the arguments that have samples and time as the batch does, or a number for each time step."""
        sizes: tuple[int, ...] = () if self.batch is None else tuple(self.values[self.batch].shape[:2])

        def is_sequence(value: Any) -> bool:
            if not isinstance(value, Tensor) or len(sizes) < 2:
                return False
            numbers = value.shape == sizes[axis : axis + 1]
            # As many samples as time steps may be told from these by their numbers.
            return value.shape[:2] == sizes or (numbers and (len(set(sizes)) > 1 or counts(value)))

        return tuple(name for name, value in self.values.items() if name != self.batch and is_sequence(value))

    @cached_property
    def free(self) -> list[inspect.Parameter]:
        """The arguments that may be a state: those without a value, and tensors after the batch."""
        left = [p for name, p in self.signature.parameters.items() if self.batch not in (None, name)]
        values = {p.name: self.values.get(p.name, None if p.default is p.empty else p.default) for p in left}
        free = {name: all(v is None or isinstance(v, Tensor) for v in tree_leaves(one)) for name, one in values.items()}
        return [p for p in left if free[p.name] and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]

    def with_state(
        self, loop: TimeLoop, fresh: Callable[[], nn.Module], accepts: Callable[[TimeLoop], bool]
    ) -> TimeLoop:
        """Return the loop with the arguments in which a step takes back what the step before returned.

        Arguments are a state if a step gives something else with them.

        Args:
            loop: without such arguments, or with those that the example lacks.
            fresh: returns a copy of the network in its initial state.
            accepts: returns whether the network takes the example in a loop.

        Raises:
            ValueError: they are a state, but the loop cannot tell which entries of the output they are.
        """
        names = tuple(p.name for p in self.free if p.name not in loop.sequences)
        if not names or loop.carry:
            return loop
        stepped = loop.steps_of({name: self.values[name] for name in (str(self.batch), *loop.sequences)})

        def call(**state: Any) -> Any:
            network = fresh()
            with evaluation(network):
                return call_by_name(network, map_tensors(torch.clone, self.values | stepped[0]) | state)

        try:
            before = call()
        except CALL_ERRORS:
            return loop
        loops = [replace(loop, carry=names[begin:]) for begin in range(len(names))]
        loops += [replace(loop, carry=(name,)) for name in names]
        # Loops that leave an output alongside the state come first.
        for carrying in sorted(loops, key=lambda one: len(one.carry) >= len(entries(before))):
            if _is_state(call, carrying.split_state(before)[0], before) and accepts(carrying):
                return carrying
        for name in names:
            for part in [*entries(before).values(), *([before[1:]] if isinstance(before, tuple) else [])]:
                if _is_state(call, {name: part}, before):
                    raise ValueError(
                        f"{type(self.network).__name__} takes the state that a step returns, as its argument {name!r}: "
                        "put the loop over time into a forward, and pass loop='network'"
                    )
        return loop


def _is_state(call: Callable[..., Any], state: dict[str, Any], before: Any) -> bool:
    """Return whether a step gives other values, in the same shapes, if it gets entries of its output as arguments."""
    if not state or not all(map(tensors_in, state.values())):
        return False
    with suppress(*CALL_ERRORS):
        some, others = tensors_in(call(**state)), tensors_in(before)
        alike = [one.shape for one in some] == [one.shape for one in others]
        return alike and not all(map(torch.equal, some, others))
    return False
