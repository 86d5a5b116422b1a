"""The wrapper that trains a network with shortcut branches and never rewrites it."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .branch import Branch
from .taps import Extract, Taps, resolve


class ShortcutOutput(NamedTuple):
    """Logits of the main output and of every branch, shallowest first."""

    main: Tensor
    branches: tuple[Tensor, ...] = ()


class Shortcut(nn.Module):
    """Shortcut back-propagation around any spiking network (paper, method section).

    Branches live outside the network: it keeps its parameters and state keys, and what ships is
    ``model.network`` (or :meth:`strip`). In training mode a call returns a :class:`ShortcutOutput` with
    branch logits; in eval mode the branches are not computed and ``branches`` is empty.

    Args:
        network: maps a batch to logits ``[N, num_classes]`` (or see ``readout``).
        taps: ``"stages"`` (the end of each stage but the last), ``"blocks"`` (each block but the last), or
            names of submodules. An empty list is vanilla training.
        num_classes: width of the branches' logits.
        example: a batch for the dry pass that finds the branches' input widths; its values do not matter. May
            be left out for a network that offers ``example_input()``, as ours do.
        time_axis: where time lies in tapped outputs: 0 for ``[T, N, C, ...]``, 1 for ``[N, T, C, ...]``, None
            for networks that are called once per time step.
        extract: takes a tapped module's output and returns its tensor; by default the output itself or the
            first entry of a tuple.
        readout: takes the network's output and returns logits ``[N, num_classes]``, as in
            ``lambda y: y.mean(0)`` for a network that gives the logits of every time step; by default the output
            itself.

    Raises:
        ValueError: an unknown tap (the message lists the names there are), or no example to run.

    Initialising the branches leaves torch's random state as it was, so the network and the data see the same
    random numbers with and without branches.
    """

    def __init__(
        self,
        network: nn.Module,
        taps: str | Sequence[str] = "stages",
        *,
        num_classes: int,
        example: Any = None,
        time_axis: int | None = 0,
        extract: Extract | None = None,
        readout: Extract | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"the network must be a torch.nn.Module, got {type(network).__name__}")
        if not isinstance(num_classes, int):
            raise TypeError(f"num_classes must be a whole number, got {num_classes!r}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.network = network
        names = resolve(network, taps)
        self.readout = readout
        self.branches = nn.ModuleList()
        if names:
            widths = _widths(network, names, _example(network, example), time_axis, extract, readout)
            # On the CPU first: the same seed gives the same branches on every device.
            reference = next(network.parameters(), torch.empty(0))
            with torch.random.fork_rng(devices=[]):
                built = [Branch(width, num_classes) for width in widths]
            self.branches.extend(branch.to(reference.device, reference.dtype) for branch in built)
        self.taps = Taps(network, names, time_axis, extract)

    def forward(self, *args: Any, **kwargs: Any) -> ShortcutOutput:
        """Run the network and, in training mode, the branches."""
        if not (self.training and self.branches):
            return ShortcutOutput(self._main(*args, **kwargs))
        self.taps.start()
        try:
            main = self._main(*args, **kwargs)
            pooled = self.taps.stop()
        finally:
            self.taps.cancel()
        return ShortcutOutput(main, tuple(b(x) for b, x in zip(self.branches, pooled, strict=True)))

    def _main(self, *args: Any, **kwargs: Any) -> Tensor:
        output = self.network(*args, **kwargs)
        main: Tensor = output if self.readout is None else self.readout(output)
        return main

    def strip(self) -> nn.Module:
        """Take the hooks off and return the network: the one that was put in, trained."""
        self.taps.remove()
        self.branches = nn.ModuleList()
        return self.network

    def extra_repr(self) -> str:
        """Show where the branches are."""
        return f"taps={self.taps.names}"


def _widths(
    network: nn.Module,
    names: Sequence[str],
    example: Any,
    time_axis: int | None,
    extract: Extract | None,
    readout: Extract | None,
) -> list[int]:
    """Channels of each tapped output, by one pass through a copy: not even a neuron's state is touched."""
    probe = copy.deepcopy(network, _results(vars(module) for module in network.modules())).eval()
    taps = Taps(probe, names, time_axis, extract)
    taps.start()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        main = probe(example)
    found = taps.stop()
    main = main if readout is None else readout(main)
    for name, pooled in zip(names, found, strict=True):
        if isinstance(main, Tensor) and main.dim() == 2 and len(pooled) != len(main):
            raise ValueError(
                f"tap {name!r} gives {len(pooled)} samples where the network gives {len(main)}: its output is not laid "
                f"out as time_axis={time_axis} says; tap a module whose output has this time axis"
            )
    return [pooled.shape[1] for pooled in found]


def _results(values: Iterable[Any], depth: int = 4) -> dict[int, Any]:
    """Copies, by id, of tensors that hold a graph: a neuron's state after a pass, which deepcopy refuses."""
    copies: dict[int, Any] = {}
    for value in values if depth else ():
        if isinstance(value, Tensor) and not value.is_leaf:
            copies[id(value)] = value.detach().clone()
        elif isinstance(value, dict | list | tuple):
            copies |= _results(value.values() if isinstance(value, dict) else value, depth - 1)
    return copies


def _example(network: nn.Module, example: Any) -> Any:
    if example is not None:
        return example
    offered = getattr(network, "example_input", None)
    if offered is None:
        raise ValueError(
            f"pass example=... (one batch of inputs) to find the branches' widths: "
            f"{type(network).__name__} has no example_input()"
        )
    return offered()
