"""The time loop around a network that computes one time step per call."""

from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .._utils.calls import call_by_name, signature_of
from .layout import entries


@dataclass(frozen=True)
class TimeLoop:
    """Call a network once per time step and stack its outputs along a new first axis.

    Args:
        steps: T for a static batch, which every call receives as a whole; None for a batch with a time axis.
        carry: the arguments that hold the network's state. Each call receives in them the last entries that the
            previous call returned, in this order, or the dictionary entries of these names. These entries are not
            outputs.
        axis: the axis of time in the batch: 0 for ``[T, N, ...]``, 1 for ``[N, T, ...]``.
        sequences: further arguments that have this axis, or one value for each time step, ``[T]``. Each call receives
            one step of each.

    Raises:
        ValueError: fewer than one time step.

    Example:
        >>> TimeLoop()(nn.Linear(4, 3), torch.rand(5, 2, 4)).shape  # 5 calls
        torch.Size([5, 2, 3])
    """

    steps: int | None = None
    carry: tuple[str, ...] = ()
    axis: int = 0
    sequences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"a static batch is shown for at least 1 time step, got {self.steps}")

    def __call__(self, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of all steps: tensors ``[T, ...]``, in tuples or dictionaries as the network returns them.

        The batch is the first positional argument, or else the first keyword argument that is a tensor.
        """
        if self.carry or self.sequences:
            return self._call_by_name(network, signature_of(network).bind_partial(*args, **kwargs).arguments)
        name = None if args else next((key for key, value in kwargs.items() if isinstance(value, Tensor)), None)
        steps = self.steps_of(args[0] if name is None else kwargs[name])
        if name is None:
            return stack_steps([network(step, *args[1:], **kwargs) for step in steps])
        return stack_steps([network(**kwargs | {name: step}) for step in steps])

    def _call_by_name(self, network: nn.Module, args: dict[str, Any]) -> Any:
        batch = next(key for key, value in args.items() if isinstance(value, Tensor))
        outputs, state = [], {name: args.get(name) for name in self.carry}
        for step in self.steps_of({name: args[name] for name in (batch, *self.sequences) if name in args}):
            result = call_by_name(network, args | step | state)
            if not self.carry:
                outputs.append(result)
                continue
            state, left = self.split_state(result)
            if not state:
                raise TypeError(
                    f"{type(network).__name__} takes {', '.join(self.carry)} and returns {type(result).__name__}, not "
                    "(output, next state); numbers of the steps are passed with the batch, as [T]"
                )
            outputs.append(left if isinstance(result, dict) else tuple(left.values()))
        stacked = stack_steps(outputs)
        return stacked[0] if self.carry and isinstance(stacked, tuple) and len(stacked) == 1 else stacked

    def split_state(self, result: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
        """Split the output of a step into its state, as arguments of the next step, and the other entries.

        The state is empty if the step returned none. If all entries are state, they are also the output.
        """
        parts = entries(result)
        keys = list(parts)[-len(self.carry) :] if isinstance(result, tuple | list) else list(self.carry)
        if len(keys) < len(self.carry) or not parts.keys() >= set(keys):
            return {}, parts
        left = {key: part for key, part in parts.items() if key not in keys}
        return {name: parts[key] for name, key in zip(self.carry, keys, strict=True)}, left or parts

    def steps_of(self, batch: Any) -> list[Any]:
        """Split a batch into the arguments of each step, also within dictionaries and tuples.

        Raises:
            ValueError: the tensors differ in their number of time steps, or there is none.
        """
        if self.steps is not None:
            return [batch] * self.steps
        if isinstance(batch, Tensor):
            return list(batch.unbind(self.axis))

        def axis_of(leaf: Tensor) -> int:
            return min(self.axis, leaf.dim() - 1)

        lengths = {leaf.shape[axis_of(leaf)] for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)}
        if len(lengths) != 1:
            raise ValueError(
                f"a time loop needs tensors with the same number of time steps on axis {self.axis}, got "
                f"{sorted(lengths) or type(batch).__name__}"
            )
        leaves, spec = tree_flatten(batch)
        by_step = [leaf.unbind(axis_of(leaf)) if isinstance(leaf, Tensor) else repeat(leaf) for leaf in leaves]
        return [tree_unflatten(list(step), spec) for step in zip(*by_step, strict=False)]


def stack_steps(outputs: list[Any]) -> Any:
    """Stack tensors along a first axis, inside tuples and dictionaries; leave anything else as a list."""
    first = outputs[0]
    if isinstance(first, dict):
        return {key: stack_steps([output[key] for output in outputs]) for key in first}
    if isinstance(first, tuple | list) and len({len(output) for output in outputs}) == 1:
        return tuple(stack_steps(list(entries)) for entries in zip(*outputs, strict=True))
    alike = all(isinstance(output, Tensor) and output.shape == getattr(first, "shape", None) for output in outputs)
    return torch.stack(outputs) if alike else outputs
