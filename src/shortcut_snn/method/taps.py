"""Where branches are attached: named submodules of a network that is never rewritten."""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .heads import pool

Extract = Callable[[Any], Tensor]
TimeAxis = int | None
_STAGE = re.compile(r"(?:^|\.)(?:layer|stage)s?[._]?\d+$")


def tensor_in(output: Any) -> Tensor | None:
    """Return the output itself or, of a tuple or list, its first entry, if that is a tensor.

    Example:
        >>> tensor_in((torch.ones(1), "state")), tensor_in("state")
        (tensor([1.]), None)
    """
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def stages(network: nn.Module) -> list[str]:
    """Names of a network's stages: those it declares as ``stage_names``, or submodules named so; maybe none.

    Example:
        >>> stages(nn.ModuleDict({"stage1": nn.ReLU(), "stage2": nn.ReLU(), "head": nn.Identity()}))
        ['stage1', 'stage2']
    """
    declared = getattr(network, "stage_names", None)
    if declared is not None:
        return list(declared)
    names = [name for name, _ in network.named_modules() if _STAGE.search(name)]
    # A stage inside a stage (layer1.stage0) is not a stage of the network.
    return [name for name in names if not any(name.startswith(other + ".") for other in names)]


def stage_ends(network: nn.Module) -> list[str]:
    """Names of the stages, all but the last, whose output already is the main branch's.

    A network may declare ``stage_names``; otherwise submodules named ``layer1``, ``layer2``, ... or
    ``stage1``, ... are taken.

    Raises:
        ValueError: no such submodules; name the taps instead.

    Example:
        >>> stage_ends(nn.ModuleDict({"layer1": nn.ReLU(), "layer2": nn.ReLU(), "head": nn.Identity()}))
        ['layer1']
    """
    found = stages(network)
    if len(found) < 2:
        raise ValueError(
            f"{type(network).__name__} has no submodules named layer1, layer2, ... to put branches behind; "
            f"name the taps yourself, among: {_some(network)}"
        )
    return found[:-1]


def every_block(network: nn.Module) -> list[str]:
    """Names of all blocks, all but the last: the children of the stages, or a stage whose children are single layers.

    Raises:
        ValueError: no stages are found (see :func:`stage_ends`).

    Example:
        >>> block, layer = (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())), nn.Linear(2, 2)
        >>> every_block(nn.ModuleDict({"layer1": nn.Sequential(block(), block()), "layer2": nn.Sequential(block())}))
        ['layer1.0', 'layer1.1']
        >>> every_block(nn.ModuleDict({"layer1": nn.Sequential(layer, nn.ReLU()), "layer2": nn.Sequential(block())}))
        ['layer1']
    """
    blocks = []
    for stage in [*stage_ends(network), stages(network)[-1]]:
        inside = {f"{stage}.{name}": child for name, child in network.get_submodule(stage).named_children()}
        inside = {name: child for name, child in inside.items() if not isinstance(child, _BETWEEN)}
        blocks += list(inside) if inside and all(map(_is_block, inside.values())) else [stage]
    return blocks[:-1]


_BETWEEN = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)


def _is_block(module: nn.Module) -> bool:
    """Whether it is made of layers, which a neuron with a surrogate in it is not."""
    return any(True for child in module.children() for _ in nn.Module.parameters(child))


PLACEMENTS: dict[str, Callable[[nn.Module], list[str]]] = {"stages": stage_ends, "blocks": every_block}


def resolve(network: nn.Module, taps: str | Sequence[str]) -> list[str]:
    """Turn a placement ("stages", "blocks") or a list of names into checked submodule names.

    Raises:
        ValueError: an unknown placement or name (the message lists those there are), or one named twice.

    Example:
        >>> resolve(nn.Sequential(nn.ReLU(), nn.ReLU()), ["0"])
        ['0']
    """
    if isinstance(taps, str):
        if taps not in PLACEMENTS:
            raise ValueError(
                f"unknown placement {taps!r}: use one of {', '.join(map(repr, PLACEMENTS))}, or a list of names"
            )
        return PLACEMENTS[taps](network)
    if not isinstance(taps, Sequence) or not all(isinstance(name, str) for name in taps):
        raise TypeError(f"taps are a placement or a list of names of submodules, got {taps!r}")
    names = list(taps)
    there = dict(network.named_modules())
    for name in names:
        if not name or name not in there:
            close = difflib.get_close_matches(name, filter(None, there), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ValueError(f"no submodule {name!r} in {type(network).__name__}{hint} There are: {_some(network)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"tapped more than once: {', '.join(twice)}")
    return names


def _some(network: nn.Module, most: int = 60) -> str:
    names = [name for name, _ in network.named_modules() if name]
    more = f", ... ({len(names) - most} more)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_tensor(output: Any) -> Tensor:
    """Return a module's output, or the first entry of a tuple.

    Raises:
        TypeError: neither is a tensor.

    Example:
        >>> first_tensor((torch.ones(1), "state"))
        tensor([1.])
    """
    found = tensor_in(output)
    if found is None:
        raise TypeError(
            f"a tapped module returned {type(output).__name__}, not a tensor; pass extract=... to say where its "
            "spikes are"
        )
    return found


def each(given: Any, number: int, what: str) -> list[Any]:
    """Return a value for each tap: those that are given, or the same for all.

    Raises:
        ValueError: another number of values is given.

    Example:
        >>> each(0, 2, "time axes")
        [0, 0]
    """
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * number
    if len(values) != number:
        raise ValueError(f"{number} taps need as many {what}, got {len(values)}")
    return values


def channels_behind(features: Tensor, time_axis: TimeAxis, channel_axis: int | None) -> Tensor:
    """Return features with their channels right behind time and batch, where pooling looks for them.

    Raises:
        ValueError: there is no such axis, or it is the batch's or time's.

    Example:
        >>> channels_behind(torch.ones(2, 16, 48), None, -1).shape  # [N, tokens, C]
        torch.Size([2, 48, 16])
    """
    if channel_axis is None:
        return features
    place = 1 if time_axis is None else 2
    if not -features.dim() <= channel_axis < features.dim() or channel_axis % features.dim() < place:
        raise ValueError(
            f"channel_axis={channel_axis} is not behind batch and time in a tap of shape {tuple(features.shape)} with "
            f"time_axis={time_axis}"
        )
    return features.movedim(channel_axis, place)


_SAMPLES: ContextVar[int | None] = ContextVar("samples", default=None)


@contextmanager
def unfolding(samples: int | None) -> Iterator[None]:
    """Say, within the block, how many samples a batch has, so that its T may be another than the example's.

    Example:
        >>> with unfolding(2):
        ...     Unfold(4)(torch.ones(12, 5)).shape
        torch.Size([6, 2, 5])
    """
    token = _SAMPLES.set(samples)
    try:
        yield
    finally:
        _SAMPLES.reset(token)


@dataclass(frozen=True)
class Unfold:
    """Takes a tap's tensor and gives time, which lies in the batch axis with the samples, an axis of its own.

    Args:
        steps: T, of a batch of which it is not known how many samples it has (see :func:`unfolding`).
        axis: where time comes to lie: 0 for ``[T * N, ...]``, all samples of a step together, 1 for ``[N * T, ...]``.
        extract: what takes the tensor from the module's output.

    Example:
        >>> Unfold(4)(torch.ones(12, 5)).shape
        torch.Size([4, 3, 5])
    """

    steps: int
    axis: int = 0
    extract: Extract = first_tensor

    def __call__(self, output: Any) -> Tensor:
        """Return ``[T, N, ...]`` or ``[N, T, ...]``.

        Raises:
            ValueError: the batch axis is no multiple of the number of samples, or of T.
        """
        features = self.extract(output)
        samples = _SAMPLES.get()
        if len(features) % (samples or self.steps):
            of = f"T = {self.steps}, the time steps of the example" if samples is None else f"{samples} samples"
            raise ValueError(
                f"{len(features)} samples and time steps in one axis are no multiple of {of}: attach the network with "
                "an example that has as many time steps as this batch"
            )
        steps = len(features) // samples if samples else self.steps
        sizes = (steps, -1) if self.axis == 0 else (-1, steps)
        unfolded: Tensor = features.unflatten(0, sizes)  # type: ignore[no-untyped-call]
        return unfolded


class Taps:
    """Forward hooks on named submodules that keep the pooled output of each while active.

    A module that is called once per time step fires its hook T times; the pooled outputs are averaged.
    While inactive, as in the second forward pass of activation checkpointing, a hook returns at once and keeps nothing.

    Args:
        network: whose submodules are tapped.
        names: of these.
        time_axis: see :class:`~shortcut_snn.Shortcut`.
        extract: likewise.
        channel_axis: likewise.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
        >>> taps = Taps(network, ["0"], time_axis=0)
        >>> taps.start()
        >>> _ = network(torch.rand(3, 2, 4))  # [T, N, C]
        >>> [pooled.shape for pooled in taps.stop()]
        [torch.Size([2, 5])]
    """

    def __init__(
        self,
        network: nn.Module,
        names: Sequence[str],
        time_axis: TimeAxis | Sequence[TimeAxis] = 0,
        extract: Extract | Sequence[Extract | None] | None = None,
        channel_axis: int | Sequence[int | None] | None = None,
    ) -> None:
        self.network = network
        self.names = list(names)
        self.time_axes = each(time_axis, len(self.names), "time axes")
        self.channel_axes = each(channel_axis, len(self.names), "channel axes")
        self.extracts = [one or first_tensor for one in each(extract, len(self.names), "functions to extract")]
        self.pools = [True] * len(self.names)
        """Whether a tap is averaged over space where it is taken, so that no feature maps are kept."""
        self.every_step = False
        """Whether taps keep their time axis, ``[T, N, ...]``, for objectives that take every time step."""
        self.active = False
        self._graph = False
        self._blind: set[int] = set()
        self._pooled: list[list[Tensor]] = [[] for _ in self.names]
        self._tapped: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []
        self.install()

    def install(self) -> None:
        """Put the hooks on the modules that bear the names now, instead of those that had them before."""
        self.remove()
        self._tapped = [self.network.get_submodule(name) for name in self.names]
        self._handles = [module.register_forward_hook(_Hook(self, index)) for index, module in enumerate(self._tapped)]

    def record(self, index: int, output: Any) -> None:
        """Keep the pooled output of tap ``index``, unless no gradient comes back from here alone."""
        if not self.active:
            return
        if self._graph and not torch.is_grad_enabled():
            # Such as the first of many time steps, which a network goes through to warm up.
            self._blind.add(index)
            return
        time, channels = self.time_axes[index], self.channel_axes[index]
        features = channels_behind(self.extracts[index](output), time, channels)
        if self.every_step and time is not None:
            steps = features.movedim(time, 0)
            each = pool(steps.flatten(0, 1), None, self.pools[index])
            self._pooled[index].append(each.view(steps.shape[:2] + each.shape[1:]))
        else:
            self._pooled[index].append(pool(features, time, self.pools[index]))

    def start(self) -> None:
        """Forget what was kept and listen."""
        # Conversions such as SyncBatchNorm's put new modules in the place of those that had the hooks.
        if [self.network.get_submodule(name) for name in self.names] != self._tapped:
            self.install()
        self._pooled = [[] for _ in self.names]
        self._graph, self._blind = torch.is_grad_enabled(), set()
        self.active = True

    def stop(self) -> list[Tensor]:
        """Stop listening and return ``[N, C]``, or ``[N, C, *space]``, for each tap, averaged over its calls.

        With ``every_step`` it is ``[T, N, C]``, or ``[T, N, C, *space]``.

        Raises:
            RuntimeError: a tapped submodule was not called in the forward pass, or never with gradients although the
                pass as a whole has them.
        """
        self.active = False
        pooled, self._pooled = self._pooled, [[] for _ in self.names]
        silent = [name for name, calls in zip(self.names, pooled, strict=True) if not calls]
        blind = [self.names[index] for index in sorted(self._blind) if not pooled[index]]
        if blind:
            raise RuntimeError(
                f"the tap {blind[0]!r} runs without gradients, so its branch would train nothing: it is "
                "inside torch.no_grad() or checkpoint(use_reentrant=True); use checkpoint(use_reentrant=False)"
            )
        if silent:
            hints = [
                f"; {name} is a {type(module).__name__}, which its network goes through by itself: tap {name}.{last[0]}"
                for name in silent
                if isinstance(module := self.network.get_submodule(name), nn.ModuleList | nn.ModuleDict)
                and (last := [child for child, _ in module.named_children()][-1:])
            ]
            raise RuntimeError(f"tapped but not called in the forward pass: {', '.join(silent)}{''.join(hints)}")
        if self.every_step:
            return [
                calls[0] if len(calls) == 1 and time is not None else torch.stack(calls)
                for calls, time in zip(pooled, self.time_axes, strict=True)
            ]
        return [calls[0] if len(calls) == 1 else sum(calls[1:], calls[0]) / len(calls) for calls in pooled]

    def cancel(self) -> None:
        """Stop listening after a failed forward pass and drop what was kept."""
        self.active = False
        self._pooled = [[] for _ in self.names]

    def remove(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._tapped = [], []


class _Hook:
    """A picklable, deep-copyable hook (a closure would keep pointing at the original wrapper)."""

    def __init__(self, taps: Taps, index: int) -> None:
        self.taps, self.index = taps, index

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.taps.record(self.index, output)
