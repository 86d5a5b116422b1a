"""The arguments of a step alongside the batch: further sequences, and the state that the step before returned."""

from dataclasses import fields
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._utils.calls import inputs_of, map_tensors, signature_of
from ..method import TimeLoop
from ..method.layout import entries
from .adapters import adapters_of
from .perturb import counts, varied


def written(loop: TimeLoop) -> str:
    """Return a loop as it is written in Python."""
    values = [f"{one.name}={value!r}" for one in fields(loop) if (value := getattr(loop, one.name)) != one.default]
    return f"TimeLoop({', '.join(values)})"


class StepArguments:
    """The arguments of a network that may be called step by step."""

    def __init__(self, network: nn.Module, example: Any) -> None:
        args, kwargs = inputs_of(network, map_tensors(varied, example))
        self.signature = signature_of(network)
        self.values: dict[str, Any] = dict(self.signature.bind_partial(*args, **kwargs).arguments)
        self.batch = next((name for name, value in self.values.items() if isinstance(value, Tensor)), None)
        """The name of the batch; None if it is not a tensor."""
        self._states = [adapter.state for adapter in adapters_of(network) if adapter.state]

    @property
    def flags(self) -> list[str]:
        """The arguments that are true or false, of which every step gets the same."""
        named = [part for value in self.values.values() if isinstance(value, dict) for part in value.items()]
        return [name for name, value in [*self.values.items(), *named] if isinstance(value, bool)]

    @cached_property
    def free(self) -> dict[str, bool]:
        """The arguments that may be a state, tensors after the batch or without a value; and whether one needs it."""
        free = {}
        for name, parameter in self.signature.parameters.items():
            default = None if parameter.default is parameter.empty else parameter.default
            leaves = tree_leaves(self.values.get(name, default))
            is_named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if is_named and self.batch not in (None, name) and all(v is None or isinstance(v, Tensor) for v in leaves):
                free[name] = parameter.default is parameter.empty and name not in self.values
        return free

    def loop(self, axis: int, steps: int | None = None) -> TimeLoop:
        """Return the loop over an axis, or over a static batch.

        An argument that the example lacks can only be state, and so is that of a library's convention.
        """
        carry = [name for name, is_needed in self.free.items() if is_needed or name in self._states]
        return TimeLoop(steps, tuple(carry), axis, () if steps else self._sequences(axis))

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

    def possible_state(self, output: Any, loop: TimeLoop | None = None) -> tuple[str, ...]:
        """Return the arguments in which a call may take back what it returned: entries after the first, or of a name.

        Args:
            output: of the network.
            loop: whose sequences are none of these; one that carries a state leaves no other.
        """
        if loop is not None and loop.carry:
            return ()
        names = tuple(name for name in self.free if loop is None or name not in loop.sequences)
        if isinstance(output, tuple | list):
            return names if len(output) > 1 else ()
        return tuple(name for name in names if not isinstance(output, Tensor) and name in entries(output))
