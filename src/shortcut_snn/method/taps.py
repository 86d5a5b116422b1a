"""Taps: forward hooks that read the output of named submodules, in a network that is never rewritten."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .heads import pool

Extract = Callable[[Any], Tensor]
TimeAxis = int | None


def tensor_in(output: Any) -> Tensor | None:
    """Return the output itself, or the first entry of a tuple or list, if that is a tensor."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def first_tensor(output: Any) -> Tensor:
    """Return a module's output itself, or the first entry of a tuple or list."""
    tensor = tensor_in(output)
    if tensor is None:
        raise TypeError(
            f"a tapped module returned {type(output).__name__}, not a tensor: pass extract=..., which returns its "
            "tensor of features"
        )
    return tensor


@dataclass(frozen=True)
class Tap:
    """A tap is a submodule whose output is read. A branch is a tap and the auxiliary head on it.

    Args:
        name: of the submodule.
        time_axis: 0 for outputs ``[T, N, C, ...]``, 1 for ``[N, T, C, ...]``; None for outputs without a time axis, as
            of a submodule that is called once per time step.
        channel_axis: of the outputs, as in -1 for tokens ``[N, L, C]``; None for the axis after batch and time.
        extract: maps the submodule's output to its tensor; None for the output itself or the first entry of a tuple.
        shape: of the output of one call, after ``extract``, if it is known.
        calls: number of calls in a forward pass, if it is known.

    Example:
        >>> Tap("layer1", channel_axis=2, shape=(4, 2, 8, 6, 6)).channels
        8
    """

    name: str
    time_axis: TimeAxis = 0
    channel_axis: int | None = None
    extract: Extract | None = field(default=None, repr=False)
    shape: tuple[int, ...] = ()
    calls: int = 1

    @property
    def batch_axis(self) -> int:
        """The axis of samples."""
        return 1 if self.time_axis == 0 else 0

    @property
    def channels(self) -> int:
        """The number of channels."""
        first = 1 if self.time_axis is None else 2
        return self.shape[first if self.channel_axis is None else self.channel_axis]

    def __str__(self) -> str:
        return f"{self.name} ({self.channels} channels)" if self.shape else self.name

    def features(self, output: Any) -> Tensor:
        """Return the features in an output, with the channel axis directly after the axes of batch and time."""
        features = (self.extract or first_tensor)(output)
        if self.channel_axis is None:
            return features
        first = 1 if self.time_axis is None else 2
        axes = features.dim()
        if not -axes <= self.channel_axis < axes or self.channel_axis % axes < first:
            raise ValueError(
                f"channel_axis={self.channel_axis} is not an axis after batch and time in a tap of shape "
                f"{tuple(features.shape)} with time_axis={self.time_axis}"
            )
        return features.movedim(self.channel_axis, first)


_BATCH_SIZE: ContextVar[int | None] = ContextVar("batch_size", default=None)


@contextmanager
def batch_of(samples: int | None) -> Iterator[None]:
    """Set, for the block, the number of samples by which :class:`Unfold` splits a batch axis."""
    token = _BATCH_SIZE.set(samples)
    try:
        yield
    finally:
        _BATCH_SIZE.reset(token)


@dataclass(frozen=True)
class Unfold:
    """Split an axis that holds time steps and samples into two; time becomes ``axis``: 0 for ``[T * N, ...]``, else 1.

    ``steps`` is used where the batch size is not set (see :func:`batch_of`). ``extract`` maps the output to its tensor.
    """

    steps: int
    axis: int = 0
    extract: Extract = first_tensor

    def __call__(self, output: Any) -> Tensor:
        """Return ``[T, N, ...]`` or ``[N, T, ...]``."""
        features = self.extract(output)
        samples = _BATCH_SIZE.get()
        if len(features) % (samples or self.steps):
            divisor = f"T = {self.steps}, of the example" if samples is None else f"{samples} samples"
            raise ValueError(
                f"{len(features)} samples and time steps in one axis are not a multiple of {divisor}: attach the "
                "network with an example that has as many time steps as this batch"
            )
        steps = len(features) // samples if samples else self.steps
        sizes = (steps, -1) if self.axis == 0 else (-1, steps)
        unfolded: Tensor = features.unflatten(0, sizes)  # type: ignore[no-untyped-call]
        return unfolded


class Taps:
    """Forward hooks on named submodules that keep the pooled output of each while listening.

    The hook of a module that is called once per time step runs T times; the pooled outputs are averaged.
    Hooks return at once while not listening, as in the second forward pass of activation checkpointing.
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap]) -> None:
        self.network = network
        self.taps = list(taps)
        self.names = [tap.name for tap in taps]
        self.pools = [True] * len(self.taps)
        """Whether a tap is averaged over space at once, so that no feature maps are kept."""
        self.every_step = False
        """Whether taps keep their time axis, ``[T, N, ...]``, for objectives that take every time step."""
        self._with_gradients = False
        self._without_gradients: set[int] = set()
        self._pooled: list[list[Tensor]]
        self._tapped: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []
        self.cancel()
        self.install()

    def install(self) -> None:
        """Put the hooks on the modules that have the names now."""
        self.remove()
        self._tapped = [self.network.get_submodule(name) for name in self.names]
        # Partials can be pickled and deep-copied; a closure would keep pointing at the original wrapper.
        self._handles = [
            module.register_forward_hook(partial(Taps._record, self, index))
            for index, module in enumerate(self._tapped)
        ]

    def _record(self, index: int, module: nn.Module, args: Any, output: Any) -> None:
        """Keep the pooled output of tap ``index``."""
        if not self.active:
            return
        if self._with_gradients and not torch.is_grad_enabled():
            # A call in torch.no_grad(), such as a warm-up step, trains nothing.
            self._without_gradients.add(index)
            return
        tap = self.taps[index]
        features = tap.features(output)
        if self.every_step and tap.time_axis is not None:
            steps = features.movedim(tap.time_axis, 0)
            pooled = pool(steps.flatten(0, 1), None, self.pools[index])
            self._pooled[index].append(pooled.view(steps.shape[:2] + pooled.shape[1:]))
        else:
            self._pooled[index].append(pool(features, tap.time_axis, self.pools[index]))

    def start(self) -> None:
        """Start listening."""
        # A call that failed may have left outputs.
        self.cancel()
        # Conversions such as SyncBatchNorm's replace modules, and sinabs' layers copy themselves without their hooks.
        modules = [self.network.get_submodule(name) for name in self.names]
        # torch.compile cannot represent handles.
        handles = [] if torch.compiler.is_compiling() else self._handles
        pairs = zip(handles, modules, strict=False)
        if modules != self._tapped or any(handle.id not in module._forward_hooks for handle, module in pairs):
            self.install()
        self._with_gradients, self._without_gradients = torch.is_grad_enabled(), set()
        self.active = True

    def stop(self) -> list[Tensor]:
        """Stop listening and return the pooled output of each tap, averaged over its calls.

        These are ``[N, C]``, or ``[N, C, *space]``; with ``every_step``, ``[T, N, C]`` or ``[T, N, C, *space]``.
        """
        recorded = self._pooled
        self.cancel()
        self._check_calls(recorded)
        if self.every_step:
            # Calls are time steps, unless the features have an axis of these.
            recorded = [
                [torch.stack(calls)] if tap.time_axis is None else calls
                for calls, tap in zip(recorded, self.taps, strict=True)
            ]
        return [calls[0] if len(calls) == 1 else sum(calls[1:], calls[0]) / len(calls) for calls in recorded]

    def _check_calls(self, recorded: list[list[Tensor]]) -> None:
        for index in sorted(self._without_gradients):
            if not recorded[index]:
                raise RuntimeError(
                    f"the tap {self.names[index]!r} runs without gradients, so its branch would train nothing: it is "
                    "inside torch.no_grad() or checkpoint(use_reentrant=True); use checkpoint(use_reentrant=False)"
                )
        silent = [name for name, calls in zip(self.names, recorded, strict=True) if not calls]
        if not silent:
            return
        hints = ""
        for name in silent:
            module = self.network.get_submodule(name)
            if isinstance(module, nn.ModuleList | nn.ModuleDict) and len(module):
                *_, (last, _) = module.named_children()
                hints += f"; {name} is a {type(module).__name__}, which is never called itself: tap {name}.{last}"
        raise RuntimeError(f"tapped but not called in the forward pass: {', '.join(silent)}{hints}")

    def cancel(self) -> None:
        """Stop listening and drop recorded outputs, as after a failed forward pass."""
        self.active = False
        self._pooled = [[] for _ in self.names]

    def remove(self) -> None:
        """Remove the hooks from the network."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._tapped = [], []
