"""The record of one forward pass, the hooks that make it, and the edits that they may apply."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .._utils.calls import map_tensors
from ..method.layout import replaced
from ..method.taps import tensor_in
from .layers import Gains, channel_axis_of, has_weights, scaled
from .perturb import Changed, variation

Edit = Callable[[str, nn.Module, Any], Any]
"""``(name, module, output) -> output``: replaces what a module gives; returns None to leave it."""
_RARE = 0.05
"""The share of values other than the most frequent one, below which a module rarely fires."""


@dataclass
class Event:
    """The calls of one module in a pass, and the shape that the first one gave, or all; None for no tensor.

    Times are counted in hooks: ``begin`` and ``end`` of the first call, and ``last``, the end of the last one.
    """

    begin: int
    end: int
    shape: tuple[int, ...] | None
    calls: int = 1
    same_shape: bool = True
    last: int = 0

    def is_stepped(self, layers: Collection["Event"]) -> bool:
        """Return whether the calls are time steps: as many as those of layers, or with no layer in between.

        Layers may run before and after a loop over time that steps neurons alone. A module that layers share is called
        in turn with them.
        """
        return self.calls in {1, *(layer.calls for layer in layers)} or not any(
            self.begin < layer.begin < self.last for layer in layers
        )


@dataclass
class Pass:
    """The record of one forward pass through a copy of the network."""

    example: Any
    network: nn.Module
    output: Any = None
    events: dict[str, Event] = field(default_factory=dict)
    """By name, of every module that was called, in the order in which the modules ended."""
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    """By name, copies of what each module gave, call by call; of the base pass alone."""
    changes: dict[str, Changed] = field(default_factory=dict)
    """By name, where what a module gave differs from the base pass, in any call; of the other passes."""


def one_channel(base: Pass, later: bool) -> Edit:
    """Return an edit that repeats every layer's output of the base pass, call by call, except for one channel.

    Layers mix channels. As no layer hears of the others' changes, each module shows those of the layers just before it.
    The channel is the first, or a ``later`` one, of the second half. The two are different channels of the features
    also where a layer gives several gates or sub-pixels side by side.
    """
    left = {name: list(calls) for name, calls in base.outputs.items()}

    def edit(name: str, module: nn.Module, output: Any) -> Any:
        tensor, calls = tensor_in(output), left.get(name)
        axis = None if tensor is None else channel_axis_of(module, tensor.shape)
        if axis is None or not calls:
            return None
        replayed = map_tensors(torch.clone, calls.pop(0))
        tensor = tensor_in(replayed)
        if tensor is None or tensor.dim() < 2:
            return None
        width = tensor.shape[axis]
        if width > 1:
            channel = tensor.select(axis, min(width // 2 + 1, width - 1) if later else 0)
            # Far up in one row and far down in the next, since a neuron may fire already, or be silent anyway.
            signs = 1 - 2 * (torch.arange(len(channel), device=channel.device) % 2)
            far = 10 + 10 * tensor.float().abs().max().item()
            channel += (far * signs).view(-1, *[1] * (channel.dim() - 1)).to(channel.dtype)
        return replaced(replayed, (0,), tensor)

    return edit


@dataclass
class Recorder:
    """The hooks of one pass: they scale and edit outputs, and record the events.

    While the scaling is learned, only the inputs of modules in ``scale_inputs_of`` are scaled; otherwise all of which
    it is known.
    """

    gains: Gains
    done: Pass
    keep: Callable[[str, Any], None]
    edit: Edit | None = None
    learn: bool = False
    scale_inputs_of: Collection[str] = ()
    learned_late: bool = False
    """Whether the scaling of a layer was learned in a call of it that was not the first."""
    _clock: int = 0
    _last_layer: int = 0
    _begun: dict[str, int] = field(default_factory=dict)
    _open: list[int] = field(default_factory=list)
    _driven: set[str] = field(default_factory=set)
    _fired: set[str] = field(default_factory=set)

    @property
    def silent(self) -> set[str]:
        """The modules without layers that gave one value almost everywhere, although their inputs varied more."""
        return self._driven - self._fired

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[None]:
        """Hook all modules of a network within the block."""
        with ExitStack() as hooks:
            for name, module in nn.Module.named_modules(network):
                # Functions: a module that copies itself would copy a partial of a method, and this recorder.
                hooks.enter_context(
                    module.register_forward_pre_hook(lambda *call, name=name: self._before(name, *call))
                )
                hooks.enter_context(module.register_forward_hook(lambda *call, name=name: self._after(name, *call)))
            yield

    def _before(self, name: str, module: nn.Module, args: Any) -> Any:
        self._begun.setdefault(name, self._clock)
        self._open.append(self._clock)
        self._clock += 1
        if not self.learn or name in self.scale_inputs_of:
            return self._scaled(name, f"input of {name}", module, args)
        return None

    def _after(self, name: str, module: nn.Module, args: Any, output: Any) -> Any:
        original, begun = output, self._open.pop()
        if has_weights(module):
            self._last_layer = self._clock
            output = self._scaled(name, name, module, output)
        elif self.learn and self._last_layer < begun:
            fires = variation(tensor_in(output))
            if fires >= _RARE:
                self._fired.add(name)
            elif variation(tensor_in(args)) > 2 * fires:
                self._driven.add(name)
        edited = None if self.edit is None else self.edit(name, module, output)
        output = output if edited is None else edited
        self._count(name, output)
        self.keep(name, output)
        return None if output is original else output

    def _scaled(self, name: str, key: str, module: nn.Module, values: Any) -> Any:
        known = len(self.gains)
        values = scaled(key, module, values, self.gains, self.learn)
        self.learned_late |= len(self.gains) > known and name in self.done.events
        return values

    def _count(self, name: str, output: Any) -> None:
        tensor = tensor_in(output)
        shape = None if tensor is None else tuple(tensor.shape)
        begun = self._begun.get(name, self._clock)
        event = self.done.events.setdefault(name, Event(begun, self._clock, shape, calls=0))
        event.calls += 1
        event.same_shape &= event.shape == shape
        event.last = self._clock
        self._clock += 1
